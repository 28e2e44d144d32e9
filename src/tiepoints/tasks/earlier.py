"""A result that is there already: the same call goes on with it, another one does not replace it unasked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import StorageError, counted
from ..files import not_among, write_whole

if TYPE_CHECKING:
    from ..collection import Collection
    from ..extraction import Extractor

__all__ = ["Earlier", "check_earlier", "earlier_reconstruction", "folder_note", "note_of_arguments", "noted", "refused"]

_NOTE = "made-with.json"
_LISTED = 5  # options that a message names


class Earlier(NamedTuple):
    """A finished result.

    Parameters
    ----------
    note : dict
        What it was made with, by options; empty if nobody knows.
    photographs : iterable of str
        The names of what is in it.

    Examples
    --------
    >>> from tiepoints.tasks.earlier import Earlier
    >>> Earlier({"command": "reconstruct", "mapper": "mapper='global'"}, ["a.jpg"]).photographs
    ['a.jpg']
    """

    note: dict[str, str]
    photographs: Iterable[str]


def refused(out: Path, why: str) -> StorageError:
    """The error that keeps a result from being replaced, with the remedy.

    >>> from pathlib import Path
    >>> print(refused(Path("scene"), "is there"))
    scene: is there; write to another place, or replace it with --overwrite (overwrite=True)
    """
    return StorageError(f"{out}: {why}; write to another place, or replace it with --overwrite (overwrite=True)")


def check_earlier(out: Path, earlier: Earlier | None, note: Mapping[str, str], photographs: Iterable[str]) -> None:
    """Refuse to replace what another call made, or what has photographs that this one lacks.

    Parameters
    ----------
    out : path
        For the message.
    earlier : Earlier, optional
        None where nothing is finished.
    note : mapping
        Of the call that is to be made; its "command" tells what it is.
    photographs : iterable of str
        The names of those that it is given.

    Raises
    ------
    StorageError
        In one line, with what differs and the remedy.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tiepoints.tasks.earlier import Earlier, check_earlier
    >>> note = {"command": "reconstruct", "mapper": "mapper='global'"}
    >>> check_earlier(Path("scene"), Earlier(note, ["a.jpg"]), note, ["a.jpg", "b.jpg"])
    """
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
            out, f"holds {counted(len(lost), 'photograph')} that this call is not given, for instance {lost[0]!r}"
        )


def note_of_arguments(
    command: str, extractor: Extractor | None, photographs: Collection | None, **arguments: Any
) -> dict[str, str]:
    """What a result is made with, each argument as Python writes it, as far as results depend on it.

    Parameters
    ----------
    command : str
        The command that makes such a result.
    extractor : Extractor, optional
        Its options are listed one by one.
    photographs : Collection, optional
        Whether they have masks and cameras, and the range of their values; their content may change.
    **arguments
        Of a list, only that it is one: it is data, as the photographs are.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.tasks.earlier import note_of_arguments
    >>> note = note_of_arguments("map", tp.load("orb", max_size=640), None, pairs="auto", align=True)
    >>> note["extractor"], note["max_size"], note["align"]
    ("extractor='orb'", 'max_size=640', 'align=True')
    """
    found: dict[str, Any] = {}
    if extractor is not None:
        found = {"extractor": extractor.metadata.name}
        machine = ("threads", "device", "batch")  # they change what the work costs
        found |= {k: v for k, v in vars(extractor).items() if not k.startswith("_") and k not in machine}
    if photographs is not None:
        found["masks"] = any(one.mask is not None for one in photographs.values())
        found["cameras"] = any(one.camera is not None for one in photographs.values())
        found["value_range"] = next((one.value_range for one in photographs.values()), None)
    texts = {name: f"{name}={_told(value)}" for name, value in (found | arguments).items()}
    return {"command": command} | texts


def _told(value: Any) -> str:
    if isinstance(value, Path):
        return repr(str(value))
    return "[...]" if isinstance(value, list) else repr(value)


def folder_note(folder: Path) -> dict[str, str]:
    """What `noted` kept; empty if there is none.

    >>> from pathlib import Path
    >>> folder_note(Path("examples"))
    {}
    """
    with suppress(OSError, ValueError, AttributeError):
        content = json.loads((folder / _NOTE).read_text(encoding="utf-8"))
        return {str(name): str(value) for name, value in content.items()}
    return {}


@contextmanager
def noted(folder: Path, note: Mapping[str, str]) -> Iterator[None]:
    """Keep in a folder what its content is made with, before the work begins: a killed run can then go on.

    An error that leaves nothing else in the folder leaves no folder.

    >>> from pathlib import Path
    >>> with noted(Path("noted"), {"command": "map"}):
    ...     folder_note(Path("noted"))
    {'command': 'map'}
    """
    write_whole(folder / _NOTE, json.dumps(dict(note), indent=1).encode("utf-8", "surrogateescape"))
    try:
        yield
    except BaseException:
        with suppress(OSError):
            if [path.name for path in folder.iterdir()] == [_NOTE]:
                (folder / _NOTE).unlink()
                folder.rmdir()
        raise


def earlier_reconstruction(out: Path) -> Earlier | None:
    """What is there and would be replaced, such as a project of COLMAP's; None where no model is finished.

    >>> from pathlib import Path
    >>> earlier_reconstruction(Path("examples")) is None
    True
    """
    from ..storage.notes import read_note

    note = folder_note(out)
    if not (out / "sparse" / "0").exists() and (note.get("command") == "reconstruct" or not _written(out)):
        return None
    missing: dict[str, str] = {}
    with suppress(OSError, ValueError, KeyError, TypeError):
        missing = json.loads((out / "report.json").read_text(encoding="utf-8"))["missing"]
    return Earlier(note, [name for name in read_note(out / "database.db").images if name not in missing])


def _written(out: Path) -> bool:
    """Whether there are files of the names that `reconstruct` writes, or another command's result."""
    names = ("database.db", "made-with.json", "points.ply", "report.html", "report.json", "transforms.json")
    return any((out / name).exists() for name in names)
