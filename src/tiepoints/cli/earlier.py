"""A result that is there already: the same command goes on with it, another command does not replace it unasked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import click

from ..errors import StorageError, counted
from .options import rotation

__all__ = ["Earlier", "check_earlier", "folder_note", "note_of", "noted", "overwrite_option", "refused"]

# Options that say where and how fast the work is done, or what is printed, and change no result.
_SAME_RESULT = ("out", "jobs", "engine", "address", "store", "shard", "as_json", "overwrite", "plot", "outliers",
                "overlay", "accept_licences")  # fmt: skip
_NOTE = "made-with.json"
_LISTED = 5  # options that a message names


def overwrite_option(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """--overwrite; `what` says what it replaces."""
    return click.option(
        "--overwrite",
        is_flag=True,
        help=f"Replace {what} that is there, also if other options or another program made it.",
    )


class Earlier(NamedTuple):
    """A finished result."""

    note: dict[str, str]
    """What it was made with, by options; empty if nobody knows."""
    photographs: Iterable[str]
    """The names of what is in it."""


def note_of() -> dict[str, str]:
    """The options of the command that runs, as far as results depend on them: by name, each as it is typed."""
    context = click.get_current_context()
    note = {"command": str(context.command.name)}
    for option in context.command.params:
        if isinstance(option, click.Option) and option.name in context.params and option.name not in _SAME_RESULT:
            note[option.name] = _typed(option, context.params[option.name])
    if rotation() == "any" or "-O rotation=any" in note.get("settings", ""):  # the same, said in two ways
        note["settings"] = " ".join(note["settings"].replace("-O rotation=any", "").split()) or "no -O"
        note["rotation"] = "--rotation any"
    else:
        note["rotation"] = "no --rotation"
    limits = context.find_root().meta.get("tiepoints.value_range")
    note["value_range"] = "no --value-range" if limits is None else "--value-range {:g} {:g}".format(*limits)
    return note


def _typed(option: click.Option, value: Any) -> str:
    name = max(option.opts, key=len)
    if option.name == "settings":
        given = {key: f"-O {key}={one}" for key, one in value}
        return " ".join(given[key] for key in sorted(given)) or "no -O"
    if option.is_flag:
        return name if value else (max(option.secondary_opts, key=len) if option.secondary_opts else f"no {name}")
    values = value if option.multiple else () if value is None else (value,)
    texts = (f"{one:g}" if isinstance(one, float) else str(one) for one in values)
    # names of methods are matched without case
    said = " ".join(f"{name} {text.lower() if option.name in ('name', 'matcher') else text}" for text in texts)
    return said or f"no {name}"


def refused(out: Path, why: str) -> StorageError:
    """The error that keeps a result from being replaced, with the remedy."""
    return StorageError(f"{out}: {why}; write to another place, or replace it with --overwrite")


def check_earlier(out: Path, earlier: Earlier | None, note: dict[str, str], photographs: Iterable[str]) -> None:
    """Refuse to replace what another command made, or what has photographs that this one lacks.

    Parameters
    ----------
    out : path
        For the message.
    earlier : Earlier, optional
        None where nothing is finished.
    note : dict
        Of the command that runs, see `note_of`.
    photographs : iterable of str
        The names of those that it is given.

    Raises
    ------
    StorageError
        In one line, with what differs and the remedy.
    """
    from ..files import not_among

    if earlier is None:
        return
    before = earlier.note
    if not before:
        raise refused(out, "is there, and what made it is not known: another program, or another command")
    if before.get("command", "") != note["command"]:
        raise refused(out, f"was made by `tiepoints {before.get('command')}`")
    differing = [name for name in note if name in before and before[name] != note[name]]
    if differing:
        old, new = (" and ".join(some[name] for name in differing[:_LISTED]) for some in (before, note))
        raise refused(out, f"was made with {old}, not with {new}")
    lost = not_among(earlier.photographs, photographs)
    if lost:
        raise refused(
            out, f"holds {counted(len(lost), 'photograph')} that this command is not given, for instance {lost[0]!r}"
        )


def folder_note(folder: Path) -> dict[str, str]:
    """What `noted` kept; empty if there is none."""
    with suppress(OSError, ValueError, AttributeError):
        content = json.loads((folder / _NOTE).read_text(encoding="utf-8"))
        return {str(name): str(value) for name, value in content.items()}
    return {}


@contextmanager
def noted(folder: Path, note: dict[str, str]) -> Iterator[None]:
    """Keep in a folder what its content is made with, before the work begins: a killed command can then go on.

    An error that leaves nothing else in the folder leaves no folder.
    """
    from ..files import write_whole

    write_whole(folder / _NOTE, json.dumps(note, indent=1).encode("utf-8", "surrogateescape"))
    try:
        yield
    except BaseException:
        with suppress(OSError):
            if [path.name for path in folder.iterdir()] == [_NOTE]:
                (folder / _NOTE).unlink()
                folder.rmdir()
        raise
