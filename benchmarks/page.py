"""Re-make the tables of docs/benchmarks.md, each between its two markers; the words around them stay.

    python benchmarks/page.py                                # every section, from the development sets
    python benchmarks/page.py --only imb -e rootsift -e orb  # one section, other methods

The folder of the development sets is that of the tests: TIEPOINTS_DATA, else `shared` beside the checkout. What was
computed is kept in the store of `tiepoints bench`, so that a second run only writes.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from pathlib import Path

from tiepoints.benchmarks import default_store, method
from tiepoints.benchmarks.writers import markdown_table
from tiepoints.files import replacing

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"


def imb(data: Path, extractors: list[str]) -> str:
    """Stereo and multiview on the sets with true cameras, and the published rows."""
    from tiepoints.benchmarks.image_matching import evaluate_image_matching

    report = evaluate_image_matching(
        [method(name, max_keypoints=2048) for name in extractors],
        [data / name for name in ("strecha", "lund_door", "temple_ring")],
        store=default_store(),
        progress=lambda what, done, total: print(f"\r{what} {done}/{total}   ", end="", flush=True),
    )
    measured, published = report.tables
    stereo = ("nf", "matches", "ni", "maa5", "maa10", "e_maa5", "e_maa10", "failures", "pairs")
    multiview = ("nm", "nl", "tl", "ate", "rms", "registered", "mv_maa10_5", "mv_maa10_10", "mv_maa10", "average")
    known = ("nf", "ni", "rep3", "ms3", "maa10", "nm", "nl", "tl", "ate", "mv_maa10", "average")
    parts = [
        f"Protocol `{report.protocol}`. {report.description}",
        "Stereo:",
        markdown_table(measured, stereo),
        "Multiview, and the average of stereo mAA@10 and multiview mAA@10:",
        markdown_table(measured, multiview),
        "Published, for comparison (other scenes, hence other figures):",
        markdown_table(published, known),
        "\n".join(f"- {note}" for note in report.notes),
        "Made with " + ", ".join(f"{key} {value}" for key, value in report.about.items()) + ".",
    ]
    return "\n\n".join(part.strip() for part in parts)


SECTIONS: dict[str, Callable[[Path, list[str]], str]] = {"imb": imb}


def with_section(page: str, name: str, content: str) -> str:
    """The page with new content between the markers of a section."""
    begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if len(pattern.findall(page)) != 1:
        raise SystemExit(f"{PAGE} must have one {begin} with one {end}")
    return pattern.sub(lambda _: f"{begin}\n{content}\n{end}", page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(SECTIONS), action="append", help="a section; all by default")
    parser.add_argument("-e", "--extractor", action="append", help="who takes part")
    options = parser.parse_args()
    data = Path(os.environ.get("TIEPOINTS_DATA", ROOT.parent / "shared")) / "data"
    for name in options.only or sorted(SECTIONS):
        content = SECTIONS[name](data, options.extractor or ["upright-rootsift", "rootsift"])
        page = PAGE.read_text(encoding="utf-8")
        with replacing(PAGE) as temporary:
            temporary.write_text(with_section(page, name, content), encoding="utf-8")
        print(f"\nwrote the section {name} of {PAGE}")


if __name__ == "__main__":
    main()
