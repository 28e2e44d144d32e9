"""LightGlue: a learned matcher that looks at all keypoints of both images, with their places."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import checks
from ..errors import InvalidInputError
from ..features import Features, Matches
from ..optional import torch_device
from ..threads import torch_threads
from ..weights import WeightFile, obtain, reading_weights
from .base import Matcher, check_comparable

__all__ = ["MODELS", "LightGlue", "LightGlueModel"]

_RELEASE = "https://github.com/cvg/LightGlue/releases/download/v0.1_arxiv"


@dataclass(frozen=True)
class LightGlueModel:
    """What one should know of LightGlue's weights for one kind of features.

    Parameters
    ----------
    name : str
        What ``tiepoints weights`` calls them.
    features : str
        The extractor that they were trained with; its models share their beginning.
    descriptor_size : int
    weights : (WeightFile,)
    """

    name: str
    features: str
    descriptor_size: int
    weights: tuple[WeightFile]
    weights_licence: str = "Apache-2.0"
    licence_url: str = ""
    commercial: bool = True
    paper: str = "Lindenberger, Sarlin and Pollefeys, LightGlue: Local Feature Matching at Light Speed, ICCV 2023"


def _model(features: str, size: int, sha256: str) -> LightGlueModel:
    file = f"{features}_lightglue.pth"
    return LightGlueModel(f"lightglue-{features}", features, size, (WeightFile(file, f"{_RELEASE}/{file}", sha256),))


#: The features that there are published weights for.
MODELS: dict[str, LightGlueModel] = {
    model.features: model
    for model in (
        _model("aliked", 128, "d975e965b105311a6143194852297dff4f02aea5cc2e10cecfed966ca0e22503"),
        _model("disk", 128, "b5b21d47ea24f2c5e501aec9c91b9716e4c8c3429a4dc1e615c133c4c9378335"),
        _model("superpoint", 256, "6ff7040d0a497fc6639337946d7538dae07428c18f77a067a0b5a960e7cc551a"),
    )
}


#: Whose descriptors MD-Net's released weights learned: of two kinds of 128 floats it is this one.
_TEACHER = "aliked"


class LightGlue(Matcher):
    """LightGlue (Lindenberger et al. 2023) with its authors' weights for ALIKED, DISK or SuperPoint.

    MD-Net's features are matched by the weights for ALIKED, in whose space its descriptors are (`Features.to_teacher`).
    The weights are found in the folder that TIEPOINTS_WEIGHTS names or in the user's cache, or else fetched from where
    their authors publish them.

    Parameters
    ----------
    features : {"aliked", "disk", "superpoint"}, optional
        What made the features. By default known from the extractor, where a command or `match_images` runs it, or from
        the features: MD-Net's bring the basis of their teacher's space, whose 128 floats are taken for ALIKED's. Other
        descriptors of 128 floats may be ALIKED's or DISK's, so that it must be said.
    min_similarity : float
        Keep a match only if its score, a probability, is above this.
    depth_confidence : float, optional
        Stop after the layer at which this share of the keypoints is sure; None: compute all nine layers.
    width_confidence : float, optional
        Leave out keypoints that are unmatchable with this confidence; None: keep all of them.
    by_set : bool
        Match the features of each set by themselves, which takes less time with k sets, and lets no keypoint see those
        of other sets. Otherwise sets do not matter.
    weights : path, optional
        A file of weights for the same network, instead of the authors'. `features` must then be given.
    device : str
        Where it computes: "cpu", "cuda", "cuda:1", "mps".
    half : bool
        Products in 16 bits, on a GPU.
    threads : int, optional
        Of torch on a CPU; all cores by default.

    Raises
    ------
    MissingDependencyError
        If torch is not installed.
    WeightsError
        If the weights cannot be had, are damaged, or are those of another network.
    InvalidInputError
        If an option is out of its range, or there is no such device; when called, if there are no weights for such
        features.

    Notes
    -----
    Time grows as the product of the two numbers of keypoints. The scores are probabilities, those of `Nearest`
    similarities of descriptors.

    Examples
    --------
    >>> import tiepoints as tp
    >>> a, b = tp.load("mdnet")(["examples/desk_1.jpg", "examples/desk_2.jpg"])
    >>> matches = tp.match(a, b, matcher="lightglue")                             # doctest: +SKIP
    >>> a, b = tp.load("aliked-n16")(["examples/desk_1.jpg", "examples/desk_2.jpg"])  # doctest: +SKIP
    >>> matches = tp.match(a, b, matcher="lightglue", features="aliked")          # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        features: str | None = None,
        min_similarity: float = 0.1,
        depth_confidence: float | None = 0.95,
        width_confidence: float | None = 0.99,
        by_set: bool = False,
        weights: str | Path | None = None,
        device: str = "cpu",
        half: bool = False,
        threads: int | None = None,
    ) -> None:
        self.features = None if features is None else checks.choice(features, "features", list(MODELS))
        self.min_similarity = checks.number(min_similarity, "min_similarity", least=0, most=1)
        self.depth_confidence = _share(depth_confidence, "depth_confidence")
        self.width_confidence = _share(width_confidence, "width_confidence")
        self.by_set = checks.flag(by_set, "by_set")
        self.weights = None if weights is None else checks.path(weights, "weights")
        self.half = checks.flag(half, "half")
        self.threads = None if threads is None else checks.count(threads, "threads", least=1)
        self.device = torch_device(device, "the matcher lightglue")
        if self.half and device.startswith("cpu"):
            raise InvalidInputError("half is True, but 16 bits are for GPUs: give device='cuda', or leave out half")
        if self.weights is not None and self.features is None:
            raise InvalidInputError(f"weights are given, but not for which features: one of {', '.join(MODELS)}")
        self._networks: dict[str, Any] = {}
        if self.features is not None:
            self._network(self.features)

    def for_extractor(self, name: str) -> LightGlue:
        """The same with the weights for an extractor's features, unless it was told which.

        Raises
        ------
        InvalidInputError
            If there are none for it.
        """
        if self.features is not None:
            return self
        found = next((each for each in MODELS if name.lower().startswith(each)), None)
        if found is None and not name.lower().startswith("mdnet"):
            raise InvalidInputError(
                f"lightglue has no weights for {name}: it matches features of aliked-n16 and its kin, disk, superpoint "
                "and mdnet; use the matcher nearest"
            )
        other = copy.copy(self)
        other.features, other._networks = found or _TEACHER, {}
        other._network(other.features)
        return other

    def _match(self, a: Features, b: Features) -> Matches:
        check_comparable(a, b)
        if a.binary:
            raise InvalidInputError("lightglue compares no binary descriptors: use the matcher nearest")
        kind = self.features or _kind_of(a)
        a, b = (each if each.teacher_basis is None else each.to_teacher() for each in (a, b))
        size = MODELS[kind].descriptor_size
        for each in (a, b):
            if each.descriptors.shape[1] != size:
                raise InvalidInputError(
                    f"descriptors have {each.descriptors.shape[1]} columns, but lightglue with weights for {kind} "
                    f"takes {size}: use features of {kind}, or the matcher nearest; mdnet's read from a file go "
                    "through extractor.to_teacher(features)"
                )
        if not len(a) or not len(b):
            return Matches.empty()
        network = self._network(kind)
        if not self.by_set or a.sets is None or b.sets is None:
            return Matches(*self._run(network, a, b))
        found = []
        for each in np.intersect1d(a.sets, b.sets):
            of_a, of_b = (np.flatnonzero(one.sets == each) for one in (a, b))
            rows, scores = self._run(network, a.select(of_a), b.select(of_b))
            found.append((of_a[rows[:, 0]], of_b[rows[:, 1]], scores))
        if not found:
            return Matches.empty()
        rows_a, rows_b, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.argsort(rows_a, kind="stable")
        return Matches(np.stack([rows_a, rows_b], axis=1)[order].astype(np.int32), scores[order])

    def _run(self, network: Any, a: Features, b: Features) -> tuple[Any, Any]:
        """Row numbers (K, 2) and scores (K,)."""
        import torch

        from .torch.lightglue import normalised

        with torch.inference_mode(), torch_threads(self.threads):
            both = [
                [torch.from_numpy(np.array(values)).to(self.device) for values in (each.keypoints, each.vectors())]
                for each in (a, b)
            ]
            places = [normalised(xy, each.image_size) for (xy, _), each in zip(both, (a, b), strict=True)]
            with torch.autocast(torch.device(self.device).type, torch.float16, enabled=self.half):
                found = network(
                    places,
                    [vectors for _, vectors in both],
                    threshold=self.min_similarity,
                    depth_confidence=self.depth_confidence,
                    width_confidence=self.width_confidence,
                )
        rows = found.rows.cpu().numpy().astype(np.int32)
        return rows, np.clip(found.scores.float().cpu().numpy(), 0, 1)

    def _network(self, kind: str) -> Any:
        """The network with the weights for such features, read when first asked for."""
        if kind not in self._networks:
            from .torch.lightglue import LightGlue as Network

            model = MODELS[kind]
            path = self.weights or obtain(model.weights[0])
            network = Network(model.descriptor_size)
            with reading_weights(path, model.name):
                network.read(path)
            self._networks[kind] = network.eval().requires_grad_(False).to(self.device)
        return self._networks[kind]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_networks": {}}


def _share(value: float | None, what: str) -> float | None:
    return None if value is None else checks.number(value, what, above=0, most=1)


def _kind_of(features: Features) -> str:
    """Whose features these are, by the size of their descriptors, or of their teacher's."""
    basis = features.teacher_basis
    size = features.descriptors.shape[1] if basis is None else len(basis)
    own = basis is None and features.rotations > 1  # no teacher's, whatever their size
    fitting = [] if own else [name for name, model in MODELS.items() if model.descriptor_size == size]
    if len(fitting) == 1:
        return fitting[0]
    if fitting and basis is not None:
        return _TEACHER
    if fitting:
        raise InvalidInputError(
            f"descriptors of {size} columns may be those of {' or of '.join(fitting)}: say which, such as "
            f"tp.match(a, b, matcher='lightglue', features={fitting[0]!r})"
        )
    raise InvalidInputError(
        f"lightglue has no weights for descriptors of {size} columns: it matches features of {', '.join(MODELS)}, and "
        "of mdnet as its extractor gives them (those read from files have lost their teacher's basis: "
        "extractor.to_teacher(features)); or use the matcher nearest"
    )
