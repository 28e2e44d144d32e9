"""Submissions for the Image Matching Benchmark: features, matches and the description of the method.

Layout (the benchmark's ``import_features.py`` and ``submission_validator.py``): ``<dataset>/<scene>/*.h5`` and one
``config.json``. Features are enough where the benchmark can match them itself; those in sets it cannot, and they come
with their matches.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...collection import Collection, Engine, Extract
from ...datasets.scenes import Scene
from ...errors import InvalidInputError
from ...extraction import Extractor
from ...files import PathLike, write_whole
from ...storage import save_imb
from ..methods import Method, Progress, method, runner
from .evaluate import default_ratio, scenes_of
from .stereo import MatchPair

__all__ = ["export_submission"]

_CATEGORIES = (2048, 8000)  # of keypoints; the benchmark accepts no more


def export_submission(
    one: str | Extractor | Method,
    roots: PathLike | Sequence[PathLike | Scene],
    folder: PathLike,
    *,
    ratio: float | None = None,
    threshold: float = 0.5,
    with_matches: bool | None = None,
    store: PathLike | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Write what the benchmark's own code reads: keypoints, descriptors, scores, scales, angles, and ``config.json``.

    Parameters
    ----------
    one : str, Extractor or Method
    roots : path, or a sequence of paths or Scenes
        As for `evaluate_image_matching`.
    folder : str or path
        Where the submission goes.
    ratio : float, optional
        Of the ratio test; the method's default if not given.
    threshold : float
        Pixels, of DEGENSAC on the stereo task.
    with_matches : bool, optional
        Whether to write ``matches.h5`` for all pairs. By default only for features in sets, and for descriptors longer
        than the 512 bytes that the benchmark matches.
    store, engine, progress
        As for `evaluate_image_matching`.

    Returns
    -------
    written : list of path
        The scenes' folders, and ``config.json``.

    Raises
    ------
    InvalidInputError
        If an image has more than 8,000 keypoints, or the scenes of a dataset have equal names.
    StorageError
        If an image or a scene cannot be read, or the folder not be written.
    """
    chosen, scenes, folder = method(one), scenes_of(roots), Path(folder)
    ratio = default_ratio(chosen) if ratio is None else ratio
    written: list[Path] = []
    most, custom = 0, bool(with_matches)
    with runner(store, engine, progress) as through:
        for number, scene in enumerate(scenes):
            target = folder / _label(scene.dataset) / scene.name
            if target in written:
                raise InvalidInputError(
                    f"two scenes of {scene.dataset} are called {scene.name}: export them one by one"
                )
            # By the files' names: the format's key is what is left of a name without its suffix.
            photos = Collection.from_paths({view.path.name: view.path for view in scene.views.values()})
            features = through(f"{scene.name}: extracting", Extract(chosen.extractor), photos)
            for why in features.failed.values():  # a submission has to have every image
                raise InvalidInputError(f"no submission without all images: {why}")
            most = max(most, *(len(features[name]) for name in photos))
            if most > _CATEGORIES[-1]:
                raise InvalidInputError(
                    f"{most} keypoints in an image, but the benchmark takes {_CATEGORIES[-1]} at most"
                )
            first = next(iter(features.values()))
            needs = first.sets is not None or first.descriptors.itemsize * first.descriptors.shape[1] > 512
            custom = needs if with_matches is None else with_matches
            matches = None
            if custom:
                pairs = [(max(pair), min(pair)) for pair in itertools.combinations(photos, 2)]
                matches = through(f"{scene.name}: matching", MatchPair(ratio), pairs, features)
                for why in matches.failed.values():
                    raise InvalidInputError(f"no submission without all pairs: {why}")
            save_imb(target, features, matches)  # type: ignore[arg-type] # mappings by names of images, and of pairs
            written.append(target)
            if progress is not None:
                progress("exporting", number + 1, len(scenes))
    config = _config(chosen, {_label(scene.dataset) for scene in scenes}, most, ratio, threshold, custom)
    write_whole(folder / "config.json", (json.dumps([config], indent=2) + "\n").encode())
    return [*written, folder / "config.json"]


def _label(text: str) -> str:
    """What the benchmark takes as a name: lower-case letters, digits, '-' and '.'."""
    return re.sub(r"[^a-z0-9.-]+", "-", text.lower()).strip("-") or "unnamed"


def _config(one: Method, datasets: set[str], most: int, ratio: float, threshold: float, custom: bool) -> dict[str, Any]:
    metadata = one.extractor.metadata
    binary = metadata.descriptor_type == "binary"
    label = _label(one.label)
    matching: dict[str, Any] = {"use_custom_matches": custom}
    if custom:
        matching["custom_matches_name"] = f"{label}-mutual-{ratio:g}"
    else:
        matcher = {"method": "nn", "distance": "Hamming" if binary else "L2", "flann": not binary, "num_nn": 1}
        filtering = {"type": "snn_ratio_pairwise", "threshold": ratio}
        matching["matcher"] = matcher | {"filtering": filtering, "symmetric": {"enabled": True, "reduce": "both"}}
        matching["outlier_filter"] = {"method": "none"}
    geometry = {"method": "cmp-degensac-f", "threshold": threshold, "confidence": 0.999999, "max_iter": 100_000}
    geometry |= {"error_type": "sampson", "degeneracy_check": True}
    about = {"method_name": metadata.name, "method_description": f"{metadata.summary}. {metadata.paper}"}
    blank = dict.fromkeys(("authors", "contact_email", "link_to_website", "link_to_pdf"), "")
    keypoints = next(category for category in _CATEGORIES if most <= category)
    content: dict[str, Any] = {
        "metadata": {"publish_anonymously": False} | about | blank,
        "config_common": dict.fromkeys(("json_label", "keypoint", "descriptor"), label) | {"num_keypoints": keypoints},
    }
    for dataset in sorted(datasets):
        content[f"config_{dataset}_stereo"] = matching | {"geom": geometry}
        content[f"config_{dataset}_multiview"] = matching | {"colmap": {}}
    return content
