"""ASLFeat: what it is, and its weights. Its network is in ``torch/``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import checks
from .learned import Learned
from .metadata import Metadata

__all__ = ["ASLFeat"]

_MODEL = Path(__file__).parents[1] / "weights" / "aslfeat.npz"


class ASLFeat(Learned):
    """ASLFeat (Luo et al. 2020), trained by tiepoints: not its authors' weights.

    Parameters
    ----------
    multi_scale : bool
        Look for keypoints in up to two smaller images as well, each 0.7 times as large as the one before.
    weights : path, optional
        Other weights than those that come with tiepoints: a file of `tiepoints.training.aslfeat`, or the authors'
        TensorFlow checkpoint by its file that ends in .index. Theirs were not at hand, so that nothing was compared
        with their outputs.
    **options
        Those of `Learned`. The authors shrink images to a `max_size` of 2048.
    """

    metadata = Metadata(
        name="aslfeat",
        summary="ASLFeat trained by tiepoints: not the authors' weights",
        paper="Luo, Zhou, Bai, Chen, Zhang, Yao, Li, Fang and Quan, ASLFeat: Learning Local Features of Accurate Shape "
        "and Localization, CVPR 2020",
        code_licence="Apache-2.0",
        weights_licence="Apache-2.0",
        descriptor_size=128,
        learned=True,
        requires=("torch",),
        extra="learned",
    )
    network = "aslfeat"
    variant = ""
    wants_colour = False

    def __init__(self, *, multi_scale: bool = False, weights: str | Path | None = None, **options: Any) -> None:
        super().__init__(weights=_MODEL if weights is None else weights, **options)
        self.multi_scale = checks.flag(multi_scale, "multi_scale")
        self._network.multi_scale = self.multi_scale
