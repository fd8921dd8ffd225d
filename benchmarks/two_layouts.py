"""What rounding boxes to whole pixels does to AP: one data set's COCO boxes, scored as detections on its VOC boxes.

python benchmarks/two_layouts.py ../shared/data/aquarium_det --split test
"""

from __future__ import annotations

import argparse

import clop_det  # noqa: F401  (makes `import detectron2` work)

# isort: split
import numpy as np

from clop_det.annotations.datasets import class_names, load_dataset, register_datasets
from clop_det.detection.evaluation import score
from clop_det.detection.ground_truth import Detections, GroundTruth, ground_truth


def read(root: str, layout: str, split: str) -> GroundTruth:
    """The boxes of one layout, images by name."""
    name = f"two_layouts_{layout}"
    register_datasets([{"NAME": name, "LAYOUT": layout, "ROOT": root, "SPLIT": split, "CLASSES": "classes.txt"}])
    return ground_truth(sorted(load_dataset(name), key=lambda record: record["file_name"]), class_names(name))


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union (N,) of boxes (N, 4), pair by pair."""
    inside = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    common = inside.clip(min=0).prod(axis=1)
    return common / ((a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1) - common)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="a data set in both layouts, with classes.txt")
    parser.add_argument("--split", default="test")
    arguments = parser.parse_args()
    voc, coco = (read(arguments.root, layout, arguments.split) for layout in ("voc", "coco"))
    edges = np.abs(voc.box - coco.box)
    print(f"{len(voc.box)} boxes; edges differ by {edges.mean():.2f} px in the mean, {edges.max():.2f} at most")
    print(f"median overlap of the two boxes {np.median(overlaps(voc.box, coco.box)):.3f}")
    found = Detections(coco.image, coco.category, coco.box, np.ones(len(coco.box)))
    families = score(voc, found, "coco").families
    for family in ("coco", "voc07", "voc12"):
        print(f"{family:6} AP {families[family]['AP']:.1f}  AP50 {families[family]['AP50']:.1f}")


if __name__ == "__main__":
    main()
