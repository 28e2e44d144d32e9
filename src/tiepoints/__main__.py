"""The command `tiepoints`, which `python -m tiepoints` is too."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C while its parts are imported ends it with one word, as it does later."""
    try:
        from .cli import main as run
    except KeyboardInterrupt:
        sys.exit("Aborted!")
    run()


if __name__ == "__main__":
    main()
