"""Which photographs files, folders, patterns, lists and videos stand for."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from .. import checks
from ..checks import count, spelled
from ..errors import ImageError, TiepointsError
from ..extraction.inputs import find_mask, no_mask
from ..files import PathLike, check_name, one_line, read_lines
from ..images import SUFFIXES, VIDEOS
from .photographs import Collection, Photograph

__all__ = ["find"]

#: Suffixes of cameras' raw files, which have to be developed first.
RAW = frozenset(
    [".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".rw2", ".orf", ".pef", ".srw", ".raw", ".nrw", ".sr2", ".x3f"]
)


class _Found(NamedTuple):
    path: Path
    frame: int | None = None


def find(sources: Iterable[PathLike], *, masks: PathLike | None = None, every: int = 1) -> Collection:
    """The collection that the sources stand for; see `Collection.from_sources`.

    Examples
    --------
    >>> from tiepoints.collection.finding import find
    >>> list(find(["examples/desk_*.jpg"]))
    ['desk_1.jpg', 'desk_2.jpg']
    """
    checks.iterable(sources, "sources", "paths")
    count(every, "every", least=1)
    if isinstance(sources, str | os.PathLike):  # one, whose characters would be taken for several
        sources = [sources]
    listed = [checks.path(source, "source") for source in sources]
    failed: dict[str, str] = {}
    left_out: list[Path] = []
    found: dict[_Found, None] = {}
    tops: list[Path] = []
    for source in listed:
        some, base = _of_source(source, every, failed, left_out)
        found.update(dict.fromkeys(some))
        tops.append(base)
    whole = {one: Path(os.path.abspath(one.path)) for one in found}  # noqa: PTH100 - links keep the names they have
    top = tops[0] if tops else Path.cwd()
    if len(listed) > 1 or not all(path.is_relative_to(top) for path in whole.values()):
        top = Path(os.path.commonpath([path.parent for path in whole.values()])) if whole else Path.cwd()
    folder = None if masks is None else checks.path(masks, "masks")
    if folder is not None:
        _check_masks(folder)
    photographs: dict[str, Photograph] = {}
    for one, path in whole.items():
        try:
            photograph = _photograph(one, path.relative_to(top).as_posix(), folder)
        except TiepointsError as error:  # noqa: PERF203 - one bad name must not cost the others
            failed[str(one.path)] = f"{one.path}: {error}"
        else:
            photographs[photograph.name] = photograph
    if not photographs and not failed:
        kinds = f"; left out: {', '.join(path.name for path in left_out[:5])}" if left_out else ""
        where = ", ".join(map(str, listed))
        raise ImageError(f"{where}: no images here (looked for {', '.join(sorted(SUFFIXES))}{kinds})")
    return Collection(photographs.values(), failed=failed, left_out=left_out)


def _photograph(one: _Found, name: str, masks: Path | None) -> Photograph:
    check_name(name)
    mask = None
    if masks is not None:
        mask = mask_of(masks, name)
    if one.frame is not None:
        name = f"{name}/{one.frame:06d}"
    return Photograph(name, one.path, mask, frame=one.frame)


def mask_of(masks: Path, name: str) -> Path:
    """The mask of an image in a folder, see `find_mask`; or the one file for all.

    Raises
    ------
    ImageError
        If there is none.
    """
    _check_masks(masks)
    found = masks if masks.is_file() else find_mask(masks, name)
    if found is None:
        raise no_mask(name, masks)
    return found


def _check_masks(masks: Path) -> None:
    if not masks.exists():
        raise ImageError(f"{masks}: no such folder of masks, or mask")


def _of_source(source: Path, every: int, failed: dict[str, str], left_out: list[Path]) -> tuple[list[_Found], Path]:
    """What one source stands for, and the folder that names are relative to."""
    if source.is_dir():
        return list(_in_folder(source, failed, left_out)), Path(os.path.abspath(source))  # noqa: PTH100
    if _is_list(source):
        return _in_list(source, every, failed)
    parent = Path(os.path.abspath(source)).parent  # noqa: PTH100
    if os.path.lexists(source):
        return _of_file(source, every, failed), parent
    if not glob.has_magic(str(source)):
        raise ImageError(f"{source}: no such file or folder")
    hits = glob.glob(str(source), recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
    files = sorted(path for path in map(Path, hits) if not path.is_dir())
    if not files:
        raise ImageError(f"{source}: no file fits this pattern")
    return [one for path in files for one in _of_file(path, every, failed)], parent


def _of_file(path: Path, every: int, failed: dict[str, str]) -> list[_Found]:
    if (why := _no_photograph(path)) is not None:
        failed[str(path)] = f"{path}: {why}"
        return []
    if path.suffix.lower() not in VIDEOS:
        return [_Found(path)]
    from .videos import frames_of

    try:
        return [_Found(path, frame) for frame in range(0, frames_of(path), every)]
    except ImageError as error:
        failed[str(path)] = str(error)
        return []


def _in_folder(folder: Path, failed: dict[str, str], left_out: list[Path]) -> Iterator[_Found]:
    def cannot(error: OSError) -> None:  # os.walk would leave the folder out without a word
        failed[str(error.filename)] = f"{error.filename}: cannot be read ({error.strerror})"

    for inner, _, names in os.walk(folder, onerror=cannot):
        for name in names:
            if name.startswith("._"):  # macOS writes these beside each file on foreign disks: no photographs
                continue
            path = Path(inner) / name
            suffix = path.suffix.lower()
            if suffix in VIDEOS or suffix in RAW:
                left_out.append(path)
            elif suffix in SUFFIXES:
                if (why := _no_photograph(path)) is None:
                    yield _Found(path)
                else:
                    failed[str(path)] = f"{path}: {why}"


def _no_photograph(path: Path) -> str | None:
    """Why a path is no photograph without opening it: a pipe would be waited for; None if it may be one."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "leads nowhere" if path.is_symlink() else "no such file"
    except OSError as error:
        return f"cannot be read ({error.strerror or one_line(error)})"
    except ValueError as error:  # a NUL in a list
        return f"no file can be called so ({one_line(error)})"
    return None if stat.S_ISREG(mode) else "not a regular file"


def _is_list(source: Path) -> bool:
    return source.suffix.lower() == ".txt" and source.is_file()


def _in_list(source: Path, every: int, failed: dict[str, str]) -> tuple[list[_Found], Path]:
    """The lines of a list: paths below its folder or, where there are none, below the current one; # is a comment."""
    own = Path(os.path.abspath(source)).parent  # noqa: PTH100
    lines = [line for line in read_lines(source, "a list of images") if line.strip()]
    top = own if any(_listed(own, line) for line in lines) else Path.cwd()
    found = [_listed(top, line) or Path(spelled(str(top / line.strip()))) for line in lines if _is_name(top, line)]
    if not found:
        raise ImageError(f"{source}: the list names no image")
    return [one for path in found for one in _of_file(path, every, failed)], top


def _listed(top: Path, line: str) -> Path | None:
    """The file that a line names, which may begin or end with spaces as the line may; None if there is none."""
    paths = (Path(spelled(str(top / name))) for name in (line, line.strip()))
    return next((path for path in paths if "\0" not in line and os.path.lexists(path)), None)


def _is_name(top: Path, line: str) -> bool:
    """Whether a line is no comment: a file may be called so, too."""
    return not line.lstrip().startswith("#") or _listed(top, line) is not None
