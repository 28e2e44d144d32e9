"""ASLFeat: what it is, and where its weights come from. Its network is in ``torch/``."""

from __future__ import annotations

from typing import Any

from .. import checks
from ..weights import WeightFile
from .learned import Learned
from .metadata import Metadata

__all__ = ["ASLFeat"]

_CHECKPOINT = "model.ckpt-380000"


class ASLFeat(Learned):
    """ASLFeat (Luo et al. 2020), with its authors' weights, a TensorFlow checkpoint.

    Their weights were not at hand, so that nothing of it was compared with their outputs.

    Parameters
    ----------
    multi_scale : bool
        Look for keypoints in up to two smaller images as well, each 0.7 times as large as the one before.
    **options
        Those of `Learned`. `weights` is a checkpoint's file that ends in .index. The authors shrink images to a
        `max_size` of 2048.
    """

    metadata = Metadata(
        name="aslfeat",
        summary="ASLFeat: deformable convolutions, peaks on three levels; not compared with its authors' outputs",
        paper="Luo, Zhou, Bai, Chen, Zhang, Yao, Li, Fang and Quan, ASLFeat: Learning Local Features of Accurate Shape "
        "and Localization, CVPR 2020",
        code_licence="Apache-2.0",
        weights_licence="MIT",
        descriptor_size=128,
        learned=True,
        weights=tuple(
            WeightFile(
                f"{_CHECKPOINT}.{ending}",
                "https://1drv.ms/u/s!Anl8gFgW1C7Lkm2yQYz8JNHkyAIe?e=vnLlVd",
                "",
                archive="aslfeat.tar",
            )
            for ending in ("index", "data-00000-of-00001")
        ),
        requires=("torch",),
        extra="learned",
    )
    network = "aslfeat"
    variant = ""
    wants_colour = False

    def __init__(self, *, multi_scale: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.multi_scale = checks.flag(multi_scale, "multi_scale")
        self._network.multi_scale = self.multi_scale
