"""Networks of published methods in PyTorch, one file each; the extractors in `..learned` import them when made."""
