"""What the commands for reconstruction and localization share: their options, and the pairs that are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..errors import counted
from .batch import engine_of, found, photographs_options, progress_bar, shown
from .numbers import FloatRange
from .options import extractor_options, json_option, make_extractor, quiet_option, say

if TYPE_CHECKING:
    from ..camera import Camera
    from ..collection import Collection
    from ..exif import Position
    from ..extraction import Extractor
    from ..storage import Exchange
    from ..tasks.maps import Map
    from ..tasks.verified import Report

_NAMED = 10  # photographs that a line names
_UNLIKE = 1.5  # times: more than COLMAP's refinement and the steps of EXIF's rounding ever come to. Ours.
#: Focal lengths in pixels, of any camera; `Camera` knows those that fit an image's size.
FOCAL = FloatRange(1, 1e8)
CAMERA_MODES = ("equal", "single", "per-folder", "per-image")


def pairs_option(default: str, what: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """--pairs; `what` says of what."""
    return click.option(
        "--pairs",
        metavar="KIND|FILE",
        default=default,
        show_default=True,
        help=f"{what}auto: every pair up to 100 images, else retrieval; exhaustive: every pair; sequential or "
        "sequential:N for videos, each with the N (10) that follow it in natural order, and with some far ones; "
        "retrieval or retrieval:N, each with the N (20) that look most alike; spatial or spatial:N, each with the N "
        "(20) taken nearest, by the GPS position in EXIF; or a file with two names on each line.",
    )


camera_mode_option = click.option(
    "--camera-mode",
    type=click.Choice(CAMERA_MODES),
    default="equal",
    show_default=True,
    help="Which photographs share a camera: those of equal size and focal length, all, a folder's, none.",
)
focal_option = click.option(
    "--focal",
    type=FOCAL,
    help="Focal length in pixels, if known.  [default: from EXIF, or a guess that is refined]",
)
query_focal_option = click.option(
    "--focal",
    type=FOCAL,
    help="Focal length in pixels, only if known.  [default: of the map's camera for pictures of its size; else focal "
    "lengths are tried]",
)
ratio_option = click.option(
    "--ratio", type=FloatRange(0, 1, min_open=True), help="Ratio test of the matches.  [default: none]"
)
early_option = click.option(
    "--early-stop",
    is_flag=True,
    help="Match and verify each pair set by set, and stop as soon as the answer is certain: faster, and a few weak "
    "pairs are lost (docs/collections.md).",
)
align_option = click.option(
    "--align/--no-align",
    default=True,
    show_default=True,
    help="Move the model's keypoints to where the photographs agree around them (least squares matching): more "
    "accurate cameras and points.",
)
cameras_option = click.option(
    "--cameras",
    type=click.Path(path_type=Path),
    help="Known cameras, as hloc lists them: name MODEL width height parameters ..., in COLMAP's pixel frame.",
)


given_option = click.option(
    "--from",
    "given",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Take the features, and the matches where there are any, of another program instead: hloc's HDF5 files, a "
    "COLMAP database or model, an OpenSfM dataset, a folder of Meshroom's; repeatable.",
)


def given_of(sources: tuple[Path, ...]) -> Exchange | None:
    """What --from names."""
    from ..storage import read_exchange

    return read_exchange(sources) if sources else None


class Scene(NamedTuple):
    """What `scene_options` ask for."""

    name: str
    max_keypoints: int
    max_size: int | None
    settings: tuple[tuple[str, Any], ...]
    pairs: str
    camera_mode: Any
    focal: float | None
    cameras: Path | None
    ratio: float | None
    early_stop: bool
    align: bool
    given: tuple[Path, ...]
    mask: Path | None
    every: int
    jobs: int | None
    engine: str
    address: str | None
    as_json: bool

    def photographs(self, sources: tuple[str, ...]) -> Collection:
        """The photographs that are named, with their masks and cameras."""
        photographs = found(sources, self.mask, self.every, self.as_json)
        return photographs if self.cameras is None else photographs.with_cameras(read_cameras(self.cameras))

    def extractor(self) -> Extractor:
        """The extractor, with its options."""
        return make_extractor(self.name, self.max_keypoints, self.max_size, self.settings)

    def arguments(self, photographs: Collection) -> dict[str, Any]:
        """What `tasks.reconstruct` and `tasks.build_map` are both given."""
        return {
            "pairs": pairs_of(self.pairs, photographs),
            "camera_mode": self.camera_mode,
            "focal": self.focal,
            "given": given_of(self.given),
            "align": self.align,
            "engine": engine_of(self.jobs, self.engine, self.address),
        }


def scene_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that reconstructs: it gets them together, as `scene`."""

    @wraps(function)
    def command(**options: Any) -> Any:
        scene = Scene(*(options.pop(name) for name in Scene._fields))
        return function(scene=scene, **options)

    options = (
        extractor_options, pairs_option("auto"), camera_mode_option, focal_option, cameras_option, ratio_option,
        early_option, align_option, given_option, photographs_options, quiet_option, json_option,
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def say_missing(missing: Mapping[str, str], every: int, where: str, hint: str = "") -> None:
    """Lines about the photographs that are missing from a result; the last ones say how many, why, and what helps.

    Parameters
    ----------
    missing : mapping
        From their names to the reasons.
    every : int
        How many photographs were given.
    where : str
        The result, such as "the map".
    hint : str
        What may help besides, see `Reconstruction.hint`.
    """
    from ..tasks.reasons import why_most_are_missing

    for photograph, reason in list(missing.items())[:_NAMED]:
        say(f"not in {where}: {shown(photograph)}: {shown(reason)}", err=True)
    if missing:
        more = f"; {len(missing) - _NAMED} more than are listed" if len(missing) > _NAMED else ""
        say(f"{len(missing)} of {counted(every, 'photograph')} missing from {where}{more}", err=True)
        say(f"most often: {why_most_are_missing(missing)}", err=True)
    if hint:
        say(shown(hint), err=True)


def enough(found: int, every: int) -> bool:
    """Whether a result holds at least half of the photographs: with less the exit code is 1."""
    return found > 0 and 2 * found >= every


def pairs_of(wanted: str, photographs: Collection) -> Any:
    """A kind of pairs by its name, or the pairs of a file."""
    from ..collection import from_file
    from ..errors import InvalidInputError
    from ..tasks.verified import PAIRS, kind_of_pairs

    try:
        kind, _ = kind_of_pairs(wanted)
    except InvalidInputError:
        if not Path(wanted).is_file():
            known = f"{', '.join(PAIRS)}, sequential:N, retrieval:N, spatial:N"
            raise click.BadParameter(
                f"{wanted} is neither {known} nor a file with two names on each line", param_hint="--pairs"
            ) from None
        return from_file(wanted, photographs)
    if kind == "spatial":
        placed_of(photographs, "retrieval")
    return wanted


def placed_of(photographs: Collection, otherwise: str) -> dict[str, Position]:
    """The positions in EXIF; photographs without one are named."""
    from ..collection import positions_of
    from ..tasks.verified import no_positions

    placed = positions_of(photographs)
    if not placed:  # not after an hour of extraction
        raise no_positions(len(photographs))
    lost = [name for name in photographs if name not in placed]
    if lost:
        names = ", ".join(shown(name) for name in lost[:_NAMED])
        more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        click.echo(f"without a position in EXIF, paired by {otherwise}: {names}{more}", err=True)
    return placed


def read_cameras(path: Path) -> dict[str, Camera]:
    """The cameras of a list as hloc writes it, in the pixel-centre convention.

    Raises
    ------
    StorageError
        If the file cannot be read.
    InvalidInputError
        If a line is none of a camera.
    """
    from ..camera import Camera
    from ..errors import InvalidInputError
    from ..files import read_lines

    found: dict[str, Camera] = {}
    for number, line in enumerate(read_lines(path, "a list of cameras"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, *rest = line.split("\t") if "\t" in line else line.split()
        rest = [part for text in rest for part in text.split()]
        try:
            model, width, height, *numbers = rest
            camera = Camera(model, int(width), int(height), tuple(map(float, numbers)))
        except (ValueError, InvalidInputError) as error:
            raise InvalidInputError(
                f"{path}, line {number}: not a camera (name MODEL width height parameters ...): {error}"
            ) from None
        found[name.strip()] = camera.shifted(-0.5)
    return found


def say_unlike_cameras(
    place: Map, photographs: Collection, cameras: Mapping[str, Camera], focal: float | None, quiet: bool
) -> None:
    """One line where focal lengths that are given differ grossly from that of the map's camera of the same size."""
    from ..camera import Camera
    from ..errors import TiepointsError

    unlike: list[tuple[str, float, float]] = []
    for name, one in photographs.items():
        with suppress(TiepointsError):  # whoever reads the photograph itself names it
            turned = one.header.orientation >= 5
            size = one.header.size[::-1] if turned else one.header.size
            given = cameras.get(name) or (None if focal is None else Camera.from_focal(focal, size))
            known = place.cameras.get(size)
            if given is not None and known is not None:
                pixels, usual = (float(camera.matrix[0, 0]) for camera in (given, known))
                if not 1 / _UNLIKE < pixels / usual < _UNLIKE:
                    unlike.append((name, pixels, usual))
    if unlike and not quiet:
        name, pixels, usual = unlike[0]
        click.echo(
            f"{counted(len(unlike), 'photograph')}, for instance {shown(name)}: a focal length of {pixels:.0f} px is "
            f"given, but the map's camera for pictures of this size has {usual:.0f} px; that is right only for another "
            f"lens or zoom. Without a given one the map's is used",
            err=True,
        )


@contextmanager
def reported(quiet: bool) -> Iterator[Report | None]:
    """A bar on the terminal for each stage in turn."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        bars: dict[str, Callable[[int, int], None] | None] = {}

        def report(what: str, done: int, every: int) -> None:
            if what not in bars:
                stack.close()
                bars[what] = stack.enter_context(progress_bar(what, quiet))
            bar = bars[what]
            if bar is not None:
                bar(done, every)

        yield None if quiet else report
