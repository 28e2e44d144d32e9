"""The published methods that run in PyTorch: their metadata and weight files, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..weights import WeightFile
from .aslfeat import ASLFeat
from .base import Extractor
from .learned import Learned
from .lift import MODEL, LIFTDetector
from .metadata import Metadata

__all__ = ["ALIASES", "CLASSES", "PARTS", "Learned", "Part"]

#: A method's name without a model -> the model that is meant.
ALIASES = {"aliked": "aliked-n16", "alike": "alike-n", "edgepoint2": "edgepoint2-s64", "r2d2": "r2d2-wasf-n16"}

#: Name -> class, in the order of the list of extractors.
# `Extractor.bytes_per_pixel` of a network, or of one of its models.
_MEMORY = {
    "aliked": 1400, "aliked-t16": 740, "alike": 1310, "alike-l": 1800, "alike-t": 680, "disk": 2000, "edgepoint2": 250,
    "r2d2": 2300, "superpoint": 770, "xfeat": 125,
}  # fmt: skip
CLASSES: dict[str, type[Learned]] = {}


def _register(
    network: str,
    variant: str,
    *,
    file: str,
    url: str,
    sha256: str,
    colour: bool = True,
    **facts: Any,
) -> None:
    """Make the class of one model; `facts` are fields of `Metadata`."""
    name = f"{network}-{variant}".lower().replace("_", "-") if variant else network
    metadata = Metadata(
        name=name,
        code_licence="Apache-2.0",
        learned=True,
        weights=(WeightFile(file, url, sha256),),
        requires=("torch",),
        extra="learned",
        **facts,
    )
    attribute = f"Learned_{name.replace('-', '_')}"
    kind = type(
        attribute,
        (Learned,),
        {
            "__doc__": f"{metadata.summary}.",
            "__module__": __name__,
            "metadata": metadata,
            "network": network,
            "variant": variant,
            "wants_colour": colour,
            "bytes_per_pixel": _MEMORY.get(name, _MEMORY[network]),
        },
    )
    globals()[attribute] = kind  # where pickle finds it
    CLASSES[name] = kind


for _variant, _dim, _sha256 in (
    ("t16", 64, "56782336919db220144a884e710e2b6af13b3b8f8da15b915a239078ab471085"),
    ("n16", 128, "5be8704840ed662d9d8c561bf7279c222092674e7eb05fd0feab94899e9d82f2"),
    ("n16rot", 128, "ddf3abbf38e86f6a74540d214e1a9712c54b2d8551abc864542199f2347d7332"),
    ("n32", 128, "055283fd1624d3ab46a05c3b617b1a79a3f28d1f551737eef2d653e8c8232890"),
):
    _register(
        "aliked",
        _variant,
        file=f"aliked-{_variant}.pth",
        url=f"https://github.com/Shiaoming/ALIKED/raw/main/models/aliked-{_variant}.pth",
        sha256=_sha256,
        summary=f"ALIKED {_variant}: score map and a deformable descriptor head",
        paper="Zhao, Wu, Chen, Chen, Xu and Lee, ALIKED: A Lighter Keypoint and Descriptor Extraction Network via "
        "Deformable Transformation, IEEE TIM 2023",
        weights_licence="BSD-3-Clause",
        descriptor_size=_dim,
    )

_register(
    "xfeat",
    "",
    file="xfeat.pt",
    url="https://github.com/verlab/accelerated_features/raw/main/weights/xfeat.pt",
    sha256="0f5187fd7bedd26c7fe6acc9685444493a165a35ecc087b33c2db3627f3ea10b",
    summary="XFeat: a small network for CPUs",
    paper="Potje, Cadar, Araujo, Martins and Nascimento, XFeat: Accelerated Features for Lightweight Image Matching, "
    "CVPR 2024",
    weights_licence="Apache-2.0",
    descriptor_size=64,
    subpixel=False,
)

for _variant, _sha256 in (
    ("T32", "c88b76d2b05cb19de7314a108042d05688424d9a9a3abed97c778078e676cfdc"),
    ("T48", "6871142455b685674704046b8a0a4aa26248eacd86d4b7cc30b790b9eeda7779"),
    ("S32", "92b9099f8e0c066b988be95fb537d7904b9cf4a2e4f860f073ea3c407905dcde"),
    ("S48", "44ac8bee2a0a94335af3b043187a995c6d5b3ef2acad6a0de69e1a1aa2db75aa"),
    ("S64", "a2c7737a85844921a0fded7225cf48c5f596b7eff130abc8711ee5ae5017f097"),
    ("M32", "e2f4f870b19145502d2dabc7ea14063d77c5ee529f97e858935386f6ca3c0821"),
    ("M48", "3a92fc9a745b92368fc391983fb566d5c9239f25e77b95c7c4df872e411ff8d7"),
    ("M64", "eaa1939ef34f26229182cc99a9ce91fbc1d787cd9eddf5d26263626ba1ad8dc6"),
    ("L32", "8bd270c75694d2c1fa85bb2c98d29528e048ff373a96cc1c194315e100fd66b0"),
    ("L48", "a31f82b11c3c8354cb20e018ec03a68ed482c4b980b8f173f604e3279d8254d7"),
    ("L64", "df0bef95b51d02f2e29e01ccf2a1e45630a50af20593dba362d7d88e104e223f"),
    ("E32", "e93ff3a5bd9f331384dfc776bc47ff78887c8569454726c27078db825df72c1f"),
    ("E48", "9c411c2f5ee20a46a9d32b04e40411e625c1f3438f97a9df3de06ce5c0ec38a9"),
    ("E64", "968d0bfae2c3f89a11092750160c90862b2b9c5b022e9aef12f97376b61cbdfe"),
):
    _register(
        "edgepoint2",
        _variant,
        file=f"edgepoint2-{_variant}.pth",
        url=f"https://github.com/HITCSC/EdgePoint2/raw/main/weights/{_variant}.pth",
        sha256=_sha256,
        summary=f"EdgePoint2 {_variant}: a very small network, distilled from ALIKED",
        paper="Yao, Hao, Wang, Wang and Wang, EdgePoint2: Compact Descriptors for Superior Efficiency and Accuracy, "
        "arXiv 2504.17280, 2025",
        weights_licence="MIT",
        descriptor_size=int(_variant[1:]),
        subpixel=False,
    )

_register(
    "superpoint",
    "",
    file="superpoint_v1.pth",
    url="https://github.com/magicleap/SuperGluePretrainedNetwork/raw/master/models/weights/superpoint_v1.pth",
    sha256="52b6708629640ca883673b5d5c097c4ddad37d8048b33f09c8ca0d69db12c40e",
    colour=False,
    summary="SuperPoint: keypoints of 8x8 cells, learned from synthetic shapes and homographies",
    paper="DeTone, Malisiewicz and Rabinovich, SuperPoint: Self-Supervised Interest Point Detection and Description, "
    "CVPR workshops 2018",
    weights_licence="LicenseRef-MagicLeap",
    licence_url="https://github.com/magicleap/SuperPointPretrainedNetwork/blob/master/LICENSE",
    descriptor_size=256,
    subpixel=False,
)

for _variant, _dim, _sha256 in (
    ("t", 64, "c0840329a6b88518d914b03af2be956f5607055a389ba17441db02bb94f7d12e"),
    ("s", 96, "a9c0789ff0a09f576cc24afe4924d3233471499d1ce3b0248d650c8794e99a94"),
    ("n", 128, "8bd4789272eec779be280f8fc1007608ff604241440a0a3377c1559199412ee3"),
    ("l", 128, "bed5fbbf352ab1c3e92e2241881f8b84edce949984fa23bc7f2517eab93938a0"),
):
    _register(
        "alike",
        _variant,
        file=f"alike-{_variant}.pth",
        url=f"https://github.com/Shiaoming/ALIKE/raw/main/models/alike-{_variant}.pth",
        sha256=_sha256,
        summary=f"ALIKE {_variant}: score map and descriptors at full resolution",
        paper="Zhao, Wu, Miao, Chen, Chen and Li, ALIKE: Accurate and Lightweight Keypoint Detection and Descriptor "
        "Extraction, IEEE TMM 2022",
        weights_licence="BSD-3-Clause",
        descriptor_size=_dim,
    )

_register(
    "disk",
    "",
    file="disk-depth-save.pth",
    url="https://github.com/cvlab-epfl/disk/raw/master/depth-save.pth",
    sha256="9c2ee4ded238892dfa51569941372601e35e4a74aa6f84ea80053d2ab1c07abe",
    summary="DISK: a U-Net trained by policy gradient",
    paper="Tyszkiewicz, Fua and Trulls, DISK: Learning local features with policy gradient, NeurIPS 2020",
    weights_licence="Apache-2.0",
    descriptor_size=128,
    subpixel=False,
)

for _variant, _sha256 in (
    ("WASF_N16", "9ae90e02a9a133d100ca7aeaa32f4d4d7736a6dd222a530a25c8f7da5e508528"),
    ("WAF_N16", "27cebd6608317b35198a76f60f87492110dee3e88ca382586a729dadb1a16b90"),
    ("WASF_N8_big", "597dc13998e211e827c550bdc8f76dbb4aca32747846f96962c9168586cec418"),
):
    _register(
        "r2d2",
        _variant,
        file=f"r2d2_{_variant}.pt",
        url=f"https://github.com/naver/r2d2/raw/master/models/r2d2_{_variant}.pt",
        sha256=_sha256,
        summary=f"R2D2 {_variant}: repeatable and reliable, at several scales",
        paper="Revaud, Weinzaepfel, De Souza, Pion, Csurka, Cabon and Humenberger, R2D2: Repeatable and Reliable "
        "Detector and Descriptor, NeurIPS 2019",
        weights_licence="CC-BY-NC-SA-3.0",
        licence_url="https://github.com/naver/r2d2/blob/master/LICENSE",
        descriptor_size=128,
        subpixel=False,
    )

CLASSES[ASLFeat.metadata.name] = ASLFeat


@dataclass(frozen=True)
class Part:
    """A network that finds or looks at patches, to be composed with others: see `composed`.

    Parameters
    ----------
    role : {"detector", "shape", "descriptor"}
    network, variant : str
        The file in ``torch/`` that has it, and which of its models.
    metadata : Metadata
    extractor : type, optional
        The class of a detector; its features have no descriptors.
    model : path, optional
        A model that comes with tiepoints and runs in ONNX Runtime, instead of `network`.
    """

    role: Literal["detector", "shape", "descriptor"]
    network: str
    variant: str
    metadata: Metadata
    extractor: type[Extractor] | None = None
    model: Path | None = None


def _metadata(name: str, file: WeightFile, **facts: Any) -> Metadata:
    return Metadata(
        name=name,
        code_licence="Apache-2.0",
        learned=True,
        weights=(file,),
        requires=("torch",),
        extra="learned",
        **facts,
    )


def _ours(role: Literal["shape", "descriptor"], name: str, summary: str, paper: str, descriptor_size: int = 0) -> Part:
    """A network that tiepoints trained and brings with it."""
    metadata = Metadata(
        name=name,
        summary=f"{summary} trained by tiepoints: not the authors' weights",
        paper=paper,
        code_licence="Apache-2.0",
        weights_licence="Apache-2.0",
        descriptor_size=descriptor_size,
        learned=True,
    )
    return Part(role, "", "", metadata, model=Path(__file__).parents[1] / "weights" / f"{name}.onnx")


class KeyNet(Learned):
    """Key.Net, a detector: keypoints with scales, no descriptors."""

    metadata = _metadata(
        "keynet",
        WeightFile(
            "keynet_pytorch.pth",
            "https://github.com/axelBarroso/Key.Net-Pytorch/raw/main/model/weights/keynet_pytorch.pth",
            "59d3a46d57b439513acf531877fdfaa95eb550ccd10ec462e23d7c1f7a86d52a",
        ),
        summary="Key.Net: handcrafted and learned filters, several scales",
        paper="Barroso-Laguna, Riba, Ponsa and Mikolajczyk, Key.Net: Keypoint Detection by Handcrafted and Learned CNN "
        "Filters, ICCV 2019",
        weights_licence="MIT",
        descriptor_size=0,
        subpixel=False,
    )
    network = "keynet"
    variant = ""
    wants_colour = False
    bytes_per_pixel = 1050


_AFFNET = "https://github.com/ducha-aiki/affnet/raw/master"
_MISHKIN = (
    "Mishkin, Radenovic and Matas, Repeatability Is Not Enough: Learning Affine Regions via Discriminability, ECCV 2018"
)
_MISHCHUK = (
    "Mishchuk, Mishkin, Radenovic and Matas, Working hard to know your neighbor's margins: Local descriptor learning "
    "loss, NeurIPS 2017"
)
_YI = "Yi, Trulls, Lepetit and Fua, LIFT: Learned Invariant Feature Transform, ECCV 2016"
_TABLE = (
    Part("detector", "keynet", "", KeyNet.metadata, KeyNet),
    Part("detector", "", "", LIFTDetector.metadata, LIFTDetector, MODEL),
    Part(
        "shape",
        "patches",
        "affnet",
        _metadata(
            "affnet",
            WeightFile(
                "AffNet.pth",
                f"{_AFFNET}/pretrained/AffNet.pth",
                "65c8bb2cf71e913818522d09dcc4262bcbcef5d756baa86a41f28526c2d61160",
            ),
            summary="AffNet: the affine shape of a patch",
            paper=_MISHKIN,
            weights_licence="MIT",
            descriptor_size=0,
        ),
    ),
    Part(
        "shape",
        "patches",
        "orinet",
        _metadata(
            "orinet",
            WeightFile(
                "OriNet.pth",
                f"{_AFFNET}/pretrained/OriNet.pth",
                "030e7964ae3e136d00431c7e11c6b67df40ad299f02ac384fee0f1c3fd1dcb30",
            ),
            summary="OriNet: the orientation of a patch",
            paper=_MISHKIN,
            weights_licence="MIT",
            descriptor_size=0,
        ),
    ),
    _ours(
        "shape",
        "lift-orientation",
        "LIFT's orientation estimator",
        f"{_YI}; Yi, Verdie, Fua and Lepetit, Learning to Assign Orientations to Feature Points, CVPR 2016",
    ),
    Part(
        "descriptor",
        "patches",
        "hardtfeat",
        _metadata(
            "hardtfeat",
            WeightFile(
                "HardTFeat.pth",
                f"{_AFFNET}/HardTFeat.pth",
                "cd935728293309b666c20525696c8d323be5ffdac07b3340f4c1c1314e0b6542",
            ),
            summary="HardTFeat: a shallow network trained with the hardest negatives",
            paper=_MISHKIN,
            weights_licence="MIT",
            descriptor_size=128,
        ),
    ),
    Part(
        "descriptor",
        "patches",
        "tfeat",
        _metadata(
            "tfeat",
            WeightFile(
                "tfeat-liberty.params",
                "https://github.com/vbalnt/tfeat/raw/master/pretrained-models/tfeat-liberty.params",
                "1f2e9516b03c45876161da006ce8047e0a66ef08cc91d3fbf96a75f1a80f445a",
            ),
            summary="TFeat: a shallow network trained with triplets",
            paper=(
                "Balntas, Riba, Ponsa and Mikolajczyk, Learning local feature descriptors with triplets and shallow "
                "convolutional neural networks, BMVC 2016"
            ),
            weights_licence="MIT",
            descriptor_size=128,
        ),
    ),
    _ours("descriptor", "hardnet", "HardNet", _MISHCHUK, descriptor_size=128),
    _ours("descriptor", "lift-descriptor", "LIFT's descriptor", _YI, descriptor_size=128),
    Part(
        "descriptor",
        "patches",
        "hardnet",
        _metadata(
            "hardnet++",
            WeightFile(
                "HardNet++.pth",
                "https://github.com/DagnyT/hardnet/raw/master/pretrained/pretrained_all_datasets/HardNet++.pth",
                "",
            ),
            summary="HardNet++: L2-Net trained with the hardest negatives, by its authors",
            paper=_MISHCHUK,
            weights_licence="MIT",
            descriptor_size=128,
        ),
    ),
    Part(
        "descriptor",
        "lift",
        "",
        _metadata(
            "lift",
            WeightFile(
                "lift_desc_base_CNN3-picc-iter-56k.h5",
                "https://github.com/cvlab-epfl/LIFT/raw/master/models/base/new-CNN3-picc-iter-56k.h5",
                "aae2e8008b6bc1e9d792c152c554e7b9cc15c1192b9f7ea3cc5e391b52f74ded",
            ),
            summary="LIFT's descriptor, of larger patches, by its authors",
            paper=f"{_YI}; academic use only",
            weights_licence="LicenseRef-LIFT-academic",
            licence_url="https://github.com/cvlab-epfl/LIFT/blob/master/README.md",
            descriptor_size=128,
        ),
    ),
)
#: Name -> part of a composition.
PARTS = {part.metadata.name: part for part in _TABLE}
