"""`python -m tiepoints` is the command `tiepoints`."""

from .cli import main

if __name__ == "__main__":
    main()
