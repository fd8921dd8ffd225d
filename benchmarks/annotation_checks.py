"""What the checks of image files cost at a start: processor time beside that of decoding the images once.

    python benchmarks/annotation_checks.py ../shared/data/aquarium_det/JPEGImages ../shared/data/bccd_voc/JPEGImages

first: headers and file ends of every image are read; next: what an earlier start kept of them is found again; decode:
every image is decoded, as one epoch of training does. One thread, in turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from clop_det.annotations.checks import facts_of, read_facts

PARTS = ("first", "next", "decode")


def decode(path: Path) -> None:
    """All pixels of one image as RGB."""
    with Image.open(path) as image:
        image.convert("RGB")


def seconds(function: Callable[[], object]) -> float:
    """Processor time of one call, all threads of this process together."""
    start = time.process_time()
    function()
    return time.process_time() - start


def measure(paths: list[Path], rounds: int) -> dict[str, list[float]]:
    """Seconds of every part in every round."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["CLOP_DET_CACHE"] = cache
        facts_of(paths)
        parts: dict[str, Callable[[], object]] = {
            "first": lambda: [read_facts(path) for path in paths],
            "next": lambda: facts_of(paths),
            "decode": lambda: [decode(path) for path in paths],
        }
        rows = [{name: seconds(part) for name, part in parts.items()} for _ in range(rounds)]
    return {name: [row[name] for row in rows] for name in PARTS}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="folders of images, not searched below")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    paths = sorted(path for folder in arguments.folders for path in folder.iterdir() if path.is_file())
    found = measure(paths, arguments.rounds)
    print(f"{len(paths)} images, processor time, median (smallest to largest) of {arguments.rounds}")
    for name in PARTS:
        share = statistics.median(a / b for a, b in zip(found[name], found["decode"], strict=True))
        spread = f"({min(found[name]):.3f} to {max(found[name]):.3f})"
        print(f"{name:8} {statistics.median(found[name]):7.3f} s {spread}   {share:.3f} of decoding")


if __name__ == "__main__":
    main()
