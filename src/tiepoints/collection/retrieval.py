"""Which images show the same place: one vector for each image, aggregated from its local features, and its neighbours.

The vector is a VLAD (Jegou, Douze, Schmid and Perez, Aggregating local descriptors into a compact image representation,
CVPR 2010): for each of K visual words the sum of what the descriptors nearest to it differ from it, each sum normalised
for itself (intra-normalisation: Arandjelovic and Zisserman, All about VLAD, CVPR 2013), and the whole of unit length.

Of descriptors that know those of the rotated image, words come in fours, each the one before it rotated by a quarter
turn. The vector of the rotated image is then that of the image in another order, and images are compared in the
rotation in which they are most alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import checks
from ..checks import array, count
from ..errors import InvalidInputError
from ..features import Features
from ..features.descriptors import rotated
from .pairs import Pair, union
from .photographs import natural_order
from .steps import Step

__all__ = ["Describe", "Vocabulary", "nearest_images", "retrieval"]

Float32 = NDArray[np.float32]

_WORDS = 64  # as in the VLAD papers; ours: 64 words of 64 numbers are 16 kB an image
_BLOCK = 1024  # images compared at once
_TURNS = 4


class Vocabulary:
    """Visual words: the centres of clusters of local descriptors.

    Parameters
    ----------
    words : (K, D) array
        Unit vectors, or 0 and 1 for binary descriptors.

    Raises
    ------
    InvalidInputError
        If it is no such array.

    Examples
    --------
    >>> import tiepoints as tp
    >>> from tiepoints.collection.retrieval import Vocabulary
    >>> features = tp.load("orb", max_keypoints=100)("examples/box.png")
    >>> vocabulary = Vocabulary.learn([features], words=4)
    >>> vocabulary(features).shape  # 4 words of 256 bits
    (1024,)
    """

    def __init__(self, words: ArrayLike) -> None:
        self.words: Float32 = array(words, "words", shape=("K", "D"), dtype=np.float32)
        if 0 in self.words.shape:
            raise InvalidInputError(f"words has shape {self.words.shape}: a vocabulary needs at least one word")
        fours = not (len(self.words) % _TURNS or self.words.shape[1] % _TURNS)
        closed = fours and np.array_equal(self.words, _in_fours(self.words[::_TURNS]))
        #: 4 where the words of the rotated image are words, too; else 1.
        self.rotations = _TURNS if closed else 1

    @classmethod
    def learn(
        cls, several: Iterable[Features], words: int = _WORDS, *, samples: int = 50_000, seed: int = 0
    ) -> Vocabulary:
        """Learn the words of some images by k-means (Lloyd's algorithm, from random descriptors).

        Where all descriptors know those of the rotated image, the words come in fours.

        Parameters
        ----------
        several : iterable of Features
            Of some dozens of images or more.
        words : int
            K; fewer where there are fewer descriptors.
        samples : int
            How many descriptors are used, the same share of each image.
        seed : int
            The same seed and features give the same words.

        Raises
        ------
        InvalidInputError
            If there are no descriptors.
        """
        rng = np.random.default_rng(seed)
        features = list(several)
        turns = _TURNS if features and all(one.rotations == _TURNS for one in features) else 1
        sets = [_numbers(one) for one in features]
        total = sum(map(len, sets))
        if not total:
            raise InvalidInputError("a vocabulary is learned from descriptors, but these images have none")
        share = min(1.0, samples / total)
        data = np.concatenate([one[rng.permutation(len(one))[: int(np.ceil(share * len(one)))]] for one in sets])
        centres = data[rng.permutation(len(data))[: max(1, min(words, len(data)) // turns)]].copy()
        for _ in range(25):
            nearest, turned = divmod(_nearest(data, centres if turns == 1 else _in_fours(centres)), turns)
            sums = np.zeros_like(centres)
            for turn in range(turns):  # each descriptor as it is in the rotation of the first word of its four
                rows = turned == turn
                np.add.at(sums, nearest[rows], rotated(data[rows], turns, -turn))
            counts = np.bincount(nearest, minlength=len(centres))
            empty = counts == 0
            moved = np.where(empty[:, None], data[rng.integers(len(data), size=len(centres))], sums)
            moved /= np.where(empty, 1, counts)[:, None]
            if np.allclose(moved, centres, atol=1e-5):
                break
            centres = moved
        return cls(centres if turns == 1 else _in_fours(centres))

    def describe(self) -> dict[str, Any]:
        """What vectors made with it depend on."""
        import hashlib

        return {"words": hashlib.sha256(np.ascontiguousarray(self.words).tobytes()).hexdigest()}

    def __call__(self, features: Features) -> Float32:
        """The image's vector, (K * D,) of unit length; zeros without features."""
        numbers = _numbers(features)
        if numbers.shape[1] != self.words.shape[1]:
            raise InvalidInputError(
                f"these descriptors have {numbers.shape[1]} numbers, but the vocabulary's words have "
                f"{self.words.shape[1]}: it was learned with another extractor"
            )
        vector: Float32 = np.zeros_like(self.words)
        nearest = _nearest(numbers, self.words)
        np.add.at(vector, nearest, numbers - self.words[nearest])
        vector /= np.maximum(np.linalg.norm(vector, axis=1, keepdims=True), 1e-12)
        flat = vector.ravel()
        return np.asarray(flat / max(float(np.linalg.norm(flat)), 1e-12), np.float32)

    def rotated(self, vectors: ArrayLike, turns: int) -> Float32:
        """The vectors of images rotated counter-clockwise by quarter turns, from those of the images.

        Parameters
        ----------
        vectors : (N, K D) array
        turns : int
            0 to 3; 0 only, where `rotations` is 1.

        Examples
        --------
        >>> import numpy as np
        >>> import tiepoints as tp
        >>> from tiepoints.collection.retrieval import shipped_vocabulary
        >>> words, extractor, box = shipped_vocabulary("mdnet"), tp.load("mdnet"), tp.read("examples/box.png")
        >>> there, turned = words(extractor(box)), words(extractor(np.rot90(box)))
        >>> float(turned @ there) < 0.8 * float(turned @ words.rotated([there], 1)[0])
        True
        """
        several = array(vectors, "vectors", shape=("N", self.words.size), dtype=np.float32)
        if count(turns, "turns", most=_TURNS - 1) and self.rotations == 1:
            raise InvalidInputError("this vocabulary knows nothing of rotated images")
        if not turns:
            return several
        words, numbers = self.words.shape
        parts = several.reshape(len(several), words // _TURNS, _TURNS, _TURNS, numbers // _TURNS)
        return np.roll(parts, (turns, -turns), axis=(2, 3)).reshape(len(several), -1)


class Describe(Step):
    """The vector of a whole image, from its features.

    Parameters
    ----------
    vocabulary : Vocabulary

    Examples
    --------
    >>> from tiepoints.collection import Collection, Extract, run
    >>> from tiepoints.collection.retrieval import Describe, Vocabulary
    >>> features = run(Extract("orb", max_keypoints=100), Collection.from_folder("examples"))
    >>> vectors = run(Describe(Vocabulary.learn(features.values(), words=4)), features)
    >>> vectors["box.png"].shape
    (1024,)
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        checks.instance(vocabulary, "vocabulary", Vocabulary)
        self.vocabulary = vocabulary

    def __call__(self, features: Features) -> Float32:
        """(K * D,) float32 of unit length."""
        return self.vocabulary(features)


def nearest_images(
    queries: ArrayLike, vectors: ArrayLike, top: int, vocabulary: Vocabulary | None = None
) -> tuple[NDArray[np.int64], Float32]:
    """The images most like each query.

    Parameters
    ----------
    queries : (Q, C) array
    vectors : (N, C) array
        Of unit length, as `Vocabulary` makes them.
    top : int
        How many; fewer where there are fewer.
    vocabulary : Vocabulary, optional
        That made them. Where it knows rotated images, queries are compared in the rotation that is most alike.

    Returns
    -------
    indices : (Q, T) int64
        Most similar first.
    similarities : (Q, T) float32
        Cosines.

    Examples
    --------
    >>> from tiepoints.collection.retrieval import nearest_images
    >>> indices, similarities = nearest_images([[1, 0]], [[0, 1], [0.6, 0.8], [1, 0]], top=2)
    >>> indices.tolist()
    [[2, 1]]
    """
    count(top, "top", least=1)
    q = array(queries, "queries", shape=("Q", "C"), dtype=np.float32)
    v = array(vectors, "vectors", shape=("N", "C"), dtype=np.float32)
    kept = min(top, len(v))
    found, scores = np.zeros((len(q), kept), np.int64), np.zeros((len(q), kept), np.float32)
    if not kept:
        return found, scores
    for begin in range(0, len(q), _BLOCK):
        block = q[begin : begin + _BLOCK]
        similar = block @ v.T
        for turns in range(1, 1 if vocabulary is None else vocabulary.rotations):
            assert vocabulary is not None
            np.maximum(similar, vocabulary.rotated(block, turns) @ v.T, out=similar)
        best = np.argpartition(-similar, kept - 1, axis=1)[:, :kept]
        order = np.argsort(-np.take_along_axis(similar, best, axis=1), axis=1, kind="stable")
        found[begin : begin + _BLOCK] = np.take_along_axis(best, order, axis=1)
        scores[begin : begin + _BLOCK] = np.take_along_axis(similar, found[begin : begin + _BLOCK], axis=1)
    return found, scores


def retrieval(vectors: Mapping[Any, Float32], top: int = 20, vocabulary: Vocabulary | None = None) -> list[Pair]:
    """Every image with those most like it.

    Parameters
    ----------
    vectors : mapping
        Each image's vector by its name: results of `Describe`.
    top : int
        How many for each image; a pair that both ask for is listed once.
    vocabulary : Vocabulary, optional
        As for `nearest_images`.

    Examples
    --------
    >>> import numpy as np
    >>> from tiepoints.collection.retrieval import retrieval
    >>> retrieval({"a": np.array([1, 0]), "b": np.array([0, 1]), "c": np.array([0.8, 0.6])}, top=1)
    [('a', 'c'), ('b', 'c')]
    """
    checks.instance(vectors, "vectors", Mapping)
    names = sorted(vectors, key=natural_order)
    if len(names) < 2:
        return []
    table = np.stack([vectors[name] for name in names])
    nearest, _ = nearest_images(table, table, count(top, "top", least=1) + 1, vocabulary)
    return union(
        [
            (names[min(i, j)], names[max(i, j)])
            for i, row in enumerate(nearest.tolist())
            for j in [j for j in row if j != i][:top]
        ]
    )


def _numbers(features: Features) -> Float32:
    """Descriptors as float32 of unit length; bits as 0 and 1 first."""
    values = features.descriptors
    if values.dtype == np.uint8:
        values = np.unpackbits(np.asarray(values, np.uint8), axis=1)
    numbers = np.asarray(values, np.float32)
    return np.asarray(numbers / np.maximum(np.linalg.norm(numbers, axis=1, keepdims=True), 1e-12), np.float32)


def _in_fours(words: Float32) -> Float32:
    """Each word (K, D), and as it is in the image rotated by one to three quarter turns: (4 K, D)."""
    return np.stack([rotated(words, _TURNS, turns) for turns in range(_TURNS)], axis=1).reshape(-1, words.shape[1])


def _nearest(data: Float32, centres: Float32) -> NDArray[np.intp]:
    """Index of the nearest centre of each row, by the Euclidean distance."""
    half = (centres**2).sum(axis=1) / 2
    out = np.empty(len(data), np.intp)
    for begin in range(0, len(data), 8192):
        out[begin : begin + 8192] = (data[begin : begin + 8192] @ centres.T - half).argmax(axis=1)
    return out


def shipped_vocabulary(extractor: str) -> Vocabulary | None:
    """The vocabulary that comes with tiepoints for this extractor; None where there is none."""
    path = Path(__file__).parent.parent / "weights" / f"{extractor}-words.npy"
    return Vocabulary(np.load(path, allow_pickle=False)) if path.is_file() else None
