"""The visual words that come with tiepoints for retrieval, learned from photographs.

    python tools/make_vocabulary.py PHOTOGRAPHS src/tiepoints/weights --every 8

Writes EXTRACTOR-words.npy for each of MD-Net's networks. Run it again when their weights change, and keep what it
writes where tools/retrieval_recall.py finds more by it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from tiepoints.collection import Collection, Extract, run
from tiepoints.collection.retrieval import Vocabulary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--every", type=int, default=8, help="take every so many of the photographs")
    options = parser.parse_args()
    photographs = Collection.from_folder(options.photographs)
    photographs = photographs.select(list(photographs)[:: options.every])
    for name in ("mdnet", "mdnet-small", "mdnet-large"):
        features = run(Extract(name, max_size=1024), photographs)
        words = Vocabulary.learn(features.values(), 64, samples=150_000).words
        np.save(options.out / f"{name}-words.npy", words)
        print(f"{name}: {len(words)} words of {words.shape[1]} numbers from {len(features)} photographs")


if __name__ == "__main__":
    main()
