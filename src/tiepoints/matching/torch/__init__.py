"""Networks of learned matchers in PyTorch, one file each; the matchers import them when made."""
