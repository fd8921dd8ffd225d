"""Compute every AP of VOC's rules in a report.zip again: python verify_voc.py report.zip, with verify.py beside it.

pycocotools does not know these rules, so they are written out here.
"""

import sys
from typing import Any

import numpy as np
from verify import check  # type: ignore[import-not-found]


def by_voc(truth: Any, found: Any) -> dict[tuple[str, str], Any]:
    """(rule, name) -> percent, by the rules of 2007 and of 2010 to 2012.

    The columns of `found` are image, class, x1, y1, x2, y2, score and place in the file.
    """
    table = np.zeros((2, len(truth["categories"]), 10))  # rule, class, overlap
    boxes = [
        [b["image_id"], b["category_id"], b["difficult"] or b["iscrowd"], *b["bbox"]] for b in truth["annotations"]
    ]
    for k in range(len(truth["categories"])):
        own = np.array([box for box in boxes if box[1] == k]).reshape(-1, 7)
        hits = [overlap_of(d, own) for d in sorted(found[found[:, 1] == k], key=lambda d: d[7])]
        for t in range(10):
            taken, marks = set(), []
            for overlap, which in hits:
                hit = overlap > (50 + 5 * t) / 100
                marks += [hit and which not in taken] if not (hit and own[which, 2]) else []
                taken |= {which} if hit else set()
            true = np.cumsum(marks)
            precision, recall = true / np.arange(1, len(true) + 1), true / max(1, (own[:, 2] == 0).sum())
            table[0, k, t] = np.mean([precision[recall >= level].max(initial=0) for level in np.arange(0, 1.1, 0.1)])
            table[1, k, t] = np.diff(recall, prepend=0) @ np.maximum.accumulate(precision[::-1])[::-1]
    figures: dict[tuple[str, str], Any] = {}
    for rule, ap in zip(("voc07", "voc12"), 100 * table, strict=True):
        figures |= {(rule, "AP"): ap.mean(), (rule, "AP50"): ap[:, 0].mean(), (rule, "AP75"): ap[:, 5].mean()}
        figures |= {(rule, f"AP-{own['name']}"): ap[k].mean() for k, own in enumerate(truth["categories"])}
    return figures


def overlap_of(detection: Any, own: Any) -> tuple[float, int]:
    """(largest overlap with a box of its image, which); pixels count from 1, corners included."""
    if not len(own):
        return 0.0, 0
    low, high = own[:, 3:5] + 1, own[:, 3:5] + own[:, 5:]
    box = np.array([float(f"{x:.1f}") for x in detection[2:6].astype("f4") + np.array([1, 1, 0, 0], "f4")])
    both = (np.minimum(high, box[2:]) - np.maximum(low, box[:2]) + 1).clip(0).prod(1)
    union = (high - low + 1).prod(1) + (box[2:] - box[:2] + 1).prod() - both
    overlap = both / union * (own[:, 0] == detection[0])
    return overlap.max(), int(overlap.argmax())


if __name__ == "__main__":
    check(sys.argv[1], by_voc)
