"""The command `tiepoints`. A subcommand's module is imported when it runs, so that --help answers at once."""

from __future__ import annotations

import atexit
import errno
import io
import json
import os
import stat
import sys
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import click

from .. import __version__
from ..errors import InvalidInputError, TiepointsError, UnknownExtractorError, is_lack_of_memory, one_line, printable
from .lazy import LazyGroup
from .options import examples

__all__ = ["main"]

# Name -> module, and the line that `tiepoints --help` shows for it.
_COMMANDS: dict[str, tuple[str, str]] = {
    "match": ("match", "Find verified tie points between two photographs."),
    "extract": ("extract", "Extract the features of one photograph or many."),
    "join": ("join", "Put the finished work of several machines together."),
    "compare": ("compare", "Compare extractors on your own photographs."),
    "pairs": ("pairs", "Choose which of many photographs are matched with which."),
    "reconstruct": ("reconstruct", "Reconstruct a scene in 3D from photographs of it."),
    "view": ("view", "Show a reconstruction in the browser."),
    "map": ("map", "Make a map of a place from photographs of it."),
    "add": ("add", "Add photographs to such a map while it is used."),
    "localize": ("localize", "Find where photographs were taken, in such a map."),
    "bench": ("bench", "Evaluate extractors by the field's protocols."),
    "extractors": ("extractors", "List the extractors with their licences, or the options of one."),
    "weights": ("weights", "List, fetch and find the weights of published methods."),
    "train": ("train", "Train MD-Net on your own photographs."),
    "convert": ("convert", "Convert features, matches and models between programs."),
    "export": ("export", "Write a trained network as one file that runs without torch."),
    "doctor": ("doctor", "Check the installation: versions, devices, caches, memory, conflicts."),
    "completion": ("completion", "Print the script that completes commands in your shell."),
}


# What a write into a pipe or a socket without a reader gives; Windows says EINVAL.
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.EINVAL)


class _Commands(LazyGroup):
    """The whole command line: an error of tiepoints ends it with one line, and with --json with JSON too."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        if not all(text.isascii() for text in given):
            from ..checks import spelled  # brings NumPy, which --help does without

            given = [spelled(text) for text in given]
        if not extra.get("standalone_mode", True):
            return super().main(given, *rest, **extra)
        as_json = "--json" in given
        try:
            code = super().main(given, *rest, **extra | {"standalone_mode": False, "obj": "json" if as_json else None})
        except click.ClickException as error:  # wrong usage
            if as_json:
                _print_error(_usage_line(error), error.exit_code)
            if isinstance(error, click.exceptions.NoArgsIsHelpError):
                error.show()
            else:
                print(f"tiepoints: {_usage_line(error)}", file=sys.stderr)
            code = error.exit_code
        except click.Abort:
            if as_json:
                _print_error("interrupted", 1)
            print("Aborted!", file=sys.stderr)
            code = 1
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TiepointsError as error:
            code = 2 if isinstance(error, UnknownExtractorError | InvalidInputError) else 1
            _fail(ctx, str(error), code)
        except OSError as error:  # most often of standard output itself, on a full disk
            if isinstance(error, FileNotFoundError) and not error.filename:
                _fail(ctx, "the current folder is not there any more; change to another", 1)
            about = printable(error.filename) if error.filename else "standard output"
            _fail(ctx, f"{about}: {error.strerror or one_line(error)}", 1)
        except ImportError as error:
            _fail(ctx, f"a package cannot be loaded ({one_line(error)}); `tiepoints doctor` checks the installation", 1)
        except Exception as error:
            if not is_lack_of_memory(error):
                raise
            _fail(ctx, "there is not enough memory; try a smaller --max-size, fewer --jobs, or end other programs", 1)


def _usage_line(error: click.ClickException) -> str:
    """What click says about wrong usage, on one line as our own errors, and where the right usage is told."""
    message = " ".join(error.format_message().split()).rstrip(".")
    if isinstance(error, click.NoSuchOption) and error.possibilities:
        near = _meant(error.option_name, error.possibilities)
        message = f"no such option {error.option_name!r}: did you mean {near!r}?"
    message = message.replace(". (Did you mean", " (did you mean").replace(". Did you mean", ": did you mean")
    if message[1:2].islower():
        message = message[0].lower() + message[1:]
    context = getattr(error, "ctx", None)
    return f"{message} (see `{'tiepoints' if context is None else context.command_path} --help`)"


def _meant(option: str, possible: Sequence[str]) -> str:
    """The option that was meant: the one that differs by hyphens alone, or else the most alike."""
    from difflib import SequenceMatcher

    def plain(name: str) -> str:
        return name.replace("-", "").replace("_", "").lower()

    return max(possible, key=lambda name: SequenceMatcher(None, plain(option), plain(name)).ratio())


def _fail(ctx: click.Context, message: str, code: int) -> None:
    """End with one line, and with --json with JSON too."""
    print(f"tiepoints: {message}", file=sys.stderr)
    if ctx.obj == "json":
        with suppress(OSError):  # it may be standard output that cannot be written
            _print_error(message, code)
    ctx.exit(code)


def _print_error(message: str, code: int) -> None:
    """What --json prints where there is no result."""
    print(json.dumps({"error": message, "exit_code": code}, indent=2))


@click.group(
    cls=_Commands,
    lazy={name: (f"{__name__}.{module}", line) for name, (module, line) in _COMMANDS.items()},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples("tiepoints match a.jpg b.jpg --max-size 1600 --plot matches.png"),
)
@click.version_option(__version__, package_name="tiepoints")
def cli() -> None:
    """Find the same physical points in different photographs.

    Exit code: 0 done, 1 failed, 2 wrong usage.
    """


def main() -> None:
    """Run the command line; the entry point of the script `tiepoints`."""
    # What is wrong with a damaged file is one line of ours, not pages of its decoders'.
    sys.stdout, sys.stderr = _until_closed(sys.stdout), _until_closed(sys.stderr)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    warnings.filterwarnings("ignore", module="PIL")
    shown, own = warnings.showwarning, str(Path(__file__).parent.parent)

    def one_line(message: Warning | str, category: type[Warning], filename: str, *rest: Any, **options: Any) -> None:
        """A warning of ours without its place in the code."""
        if category is UserWarning and filename.startswith(own):
            print(f"tiepoints: {printable(message)}", file=sys.stderr)
        else:
            shown(message, category, filename, *rest, **options)

    warnings.showwarning = one_line
    try:
        cli(prog_name="tiepoints")
    except KeyboardInterrupt:  # before click looks after it
        sys.exit("Aborted!")
    except SystemExit as end:
        _leave(end.code)
        raise


class _Pipe(io.FileIO):
    """A pipe whose reader may have read enough, as `head` has: what is written afterwards goes nowhere."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return len(data)


def _until_closed(stream: TextIO) -> TextIO:
    """The stream without an error where its reader is gone: the work is done all the same, and the exit code tells."""
    try:
        descriptor = stream.fileno()
        kind = os.fstat(descriptor).st_mode
        if not (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)):
            return stream
        stream.flush()
    except (AttributeError, OSError, ValueError):  # None, closed, or no file
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(_Pipe(descriptor, "w", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=bool(stream.line_buffering),
    )


def _leave(code: object) -> None:
    """End the process at once, where nothing is left to do.

    To take apart networks and loaded libraries piece by piece takes longer than many a command.
    """
    if not (code is None or isinstance(code, int)) or threading.active_count() > 1:
        return
    # No public function calls what was registered before this command, too, as by a measurement of coverage: a handler
    # of our own that ends the process would be called before those. The children of multiprocessing end like this.
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):  # Python's own way says what is wrong
        return
    os._exit(code or 0)
