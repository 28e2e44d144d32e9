"""`report.html`: what a reconstruction found, to look at: figures, photographs, and the scene to turn with the mouse.

One file without references to others, so that it opens offline and can be sent to somebody.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib.resources import files
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..collection import Collection
from ..errors import TiepointsError, counted
from .reasons import outcome_lines

__all__ = ["page_of", "points_of", "small_pictures"]

_POINTS = 30_000  # that are drawn; more make the page slow and large
_PICTURES = 300  # small pictures of photographs, 5 kB each
_EDGE = 160  # their long edge in pixels
_PAIRS = 500  # that are listed


@contextmanager
def small_pictures(photographs: Collection) -> Iterator[Callable[[str], str]]:
    """What gives the small picture of a photograph by its name, as a JPEG in base64; empty where it cannot be read.

    They are made by a thread of their own while the ``with`` block does other work.

    Examples
    --------
    >>> from tiepoints.collection import Collection
    >>> from tiepoints.tasks.page import small_pictures
    >>> with small_pictures(Collection.from_folder("examples")) as picture_of:
    ...     picture_of("box.png")[:4]  # how a JPEG begins
    '/9j/'
    """
    checks.instance(photographs, "photographs", Mapping)
    pool = ThreadPoolExecutor(1, thread_name_prefix="tiepoints-pictures")
    made = {name: pool.submit(_thumbnail, photographs, name) for name in islice(photographs, _PICTURES)}
    try:
        yield lambda name: made[name].result() if name in made else _thumbnail(photographs, name)
    finally:
        pool.shutdown(cancel_futures=True)


def page_of(
    model: Any, photographs: Collection, figures: Mapping[str, Any], picture_of: Callable[[str], str] | None = None
) -> str:
    """The page as HTML.

    Parameters
    ----------
    model : pycolmap.Reconstruction or None
    photographs : Collection
    figures : mapping
        As `summary_of` gives them.
    picture_of : callable, optional
        Of `small_pictures`, where they are made already.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tiepoints.collection import Collection
    >>> from tiepoints.tasks import Reconstruction
    >>> from tiepoints.tasks.page import page_of
    >>> from tiepoints.tasks.reconstruction import summary_of
    >>> figures = summary_of(Reconstruction(Path("scene"), 12, 0, 0, 0, 0.0, 0.0, 66, 0))
    >>> "0 of 66" in page_of(None, Collection([]), figures)
    True
    """
    checks.instance(photographs, "photographs", Mapping)
    cameras, points, colours = ([], np.zeros((0, 3)), np.zeros((0, 3), np.uint8)) if model is None else _scene(model)
    scene = {
        "cameras": cameras,
        "points": _packed(np.asarray(points, np.float32)),
        "colours": _packed(np.asarray(colours, np.uint8)),
    }
    rows = [
        ("photographs registered", f"{figures['registered']} of {figures['images']}"),
        ("models", figures["models"]),
        *(
            (one["model"], f"{counted(one['registered'], 'photograph')}, for instance {one['photographs'][0]}")
            for one in figures.get("further_models", ())
        ),
        ("points", figures["points"]),
        ("track length: photographs that see a point, mean", f"{figures['track_length']:.2f}"),
        ("reprojection error, mean", f"{figures['reprojection_error']:.2f} px"),
        ("pairs verified", f"{figures['verified']} of {figures['pairs']}"),
        *((what, count) for count, what in outcome_lines(figures.get("pairs_by_outcome", {}))),
    ]
    template = files("tiepoints.tasks").joinpath("page.html").read_text(encoding="utf-8")
    parts = {
        "ROWS": "".join(f"<tr><th>{html.escape(str(k))}</th><td>{html.escape(str(v))}</td></tr>" for k, v in rows),
        "PAIRS": _pairs(figures),
        "PICTURES": _pictures(photographs, figures["missing"], picture_of or partial(_thumbnail, photographs)),
        # "</" would end the script early
        "SCENE": json.dumps(scene).replace("</", "<\\/"),
    }
    for name, text in parts.items():
        template = template.replace(f"@{name}@", text)
    return template


def points_of(
    model: Any, most: int = _POINTS
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float64], float]:
    """Points of a model to draw, at most so many, around their middle and of size 1; their colours, and the middle and
    the size in the model's frame. Points that are far from all others are left out.

    Examples
    --------
    >>> import pycolmap
    >>> from tiepoints.tasks.page import points_of
    >>> options = pycolmap.SyntheticDatasetOptions(num_points3D=100, num_points2D_without_point3D=0)
    >>> points, colours, middle, size = points_of(pycolmap.synthesize_dataset(options), most=50)
    >>> points.shape == colours.shape, len(points) <= 50
    (True, True)
    """
    checks.present(model, "model")
    ids = list(model.point3D_ids())
    if len(ids) > most:
        ids = [ids[i] for i in np.random.default_rng(0).choice(len(ids), most, replace=False)]
    points = np.array([model.point3D(i).xyz for i in ids], np.float64).reshape(-1, 3)
    colours = np.array([model.point3D(i).color for i in ids], np.uint8).reshape(-1, 3)
    centres = np.array([model.image(i).projection_center() for i in model.reg_image_ids()]).reshape(-1, 3)
    whole = np.concatenate([points, centres])
    middle = np.median(whole, axis=0)
    size = max(float(np.quantile(np.linalg.norm(whole - middle, axis=1), 0.9)), 1e-12)
    near = np.linalg.norm(points - middle, axis=1) < 5 * size
    return np.asarray((points[near] - middle) / size, np.float32), colours[near], middle, size


def _scene(model: Any) -> tuple[list[dict[str, Any]], NDArray[np.float32], NDArray[np.uint8]]:
    """Cameras and points, around their middle and of size 1."""
    points, colours, middle, size = points_of(model)
    images = sorted((model.image(i) for i in model.reg_image_ids()), key=lambda image: str(image.name))
    cameras = []
    for image in images:
        camera = model.camera(image.camera_id)
        focal = camera.mean_focal_length()
        right, up = camera.width / focal / 2, camera.height / focal / 2
        pose = image.cam_from_world().inverse()
        depth = 0.12
        corners = depth * np.array([[x * right, y * up, 1] for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
        corners = corners @ pose.rotation.matrix().T
        centre = (pose.translation - middle) / size
        cameras.append(
            {"name": image.name, "centre": centre.round(5).tolist(), "corners": (centre + corners).round(5).tolist()}
        )
    return cameras, points, colours


def _packed(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def _pictures(photographs: Collection, missing: Mapping[str, str], picture_of: Callable[[str], str]) -> str:
    """A small picture of each photograph with its name; those that are missing first, with the reason."""
    shown = sorted(photographs, key=lambda name: name not in missing)[:_PICTURES]
    parts = []
    for name in shown:
        reason = missing.get(name, "")
        picture = picture_of(name)
        image = f'<img alt="" loading="lazy" src="data:image/jpeg;base64,{picture}">' if picture else ""
        note = f"<small>{html.escape(reason)}</small>" if reason else ""
        kind = "missing" if reason else "there"
        parts.append(f'<figure class="{kind}">{image}<figcaption>{html.escape(name)}{note}</figcaption></figure>')
    if len(photographs) > len(shown):
        parts.append(f"<p>and {counted(len(photographs) - len(shown), 'more photograph')}</p>")
    return "".join(parts)


def _pairs(figures: Mapping[str, Any]) -> str:
    """The pairs that are not verified, or tell no depth, and why; folded, for there may be many."""
    listed = figures.get("failed_pairs", [])
    if not listed:
        return ""
    rows = "".join(
        f"<tr><th>{html.escape(' - '.join(one['pair']))}</th><td>{html.escape(one['why'])}</td></tr>"
        for one in listed[:_PAIRS]
    )
    more = len(listed) - _PAIRS + figures.get("failed_pairs_left_out", 0)
    rest = f"<p>and {more} more in report.json</p>" if more > 0 else ""
    title = "Pairs that are not verified, or tell no depth"
    return f"<details><summary>{title}</summary><table>{rows}</table>{rest}</details>"


def _thumbnail(photographs: Collection, name: str) -> str:
    from PIL import Image

    try:
        image = Image.fromarray(photographs[name].read())
    except TiepointsError:  # it is among the missing, with the reason
        return ""
    image.thumbnail((_EDGE, _EDGE))
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=70)
    return base64.b64encode(buffer.getvalue()).decode()
