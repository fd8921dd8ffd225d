"""Compute every AP of boxes in a report.zip again: python verify.py report.zip. Needs numpy and pycocotools alone."""

import contextlib
import hashlib
import json
import sys
import zipfile
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def by_coco(truth: Any, found: Any) -> Any:
    """Name -> percent by COCO's rule."""
    moved = np.c_[found[:, [0, 2, 3]], found[:, 4:6] - found[:, 2:4], found[:, [6, 1]]]  # image, box, score, class
    with contextlib.redirect_stdout(None):
        index = COCO()
        index.dataset = truth
        index.createIndex()
        run = COCOeval(index, index.loadRes(moved if len(moved) else np.array([[0, -2, -2, 1, 1, 0, 0]])), "bbox")
        run.params.maxDets = [truth["info"]["most"]]
        run.evaluate()
        run.accumulate()
    p = run.eval["precision"][..., -1]  # overlap, recall, class, area
    parts = {"AP": p[..., 0], "AP50": p[0, ..., 0], "AP75": p[5, ..., 0]}
    parts |= {name: p[..., area] for area, name in enumerate(("APs", "APm", "APl"), 1)}
    parts |= {f"AP-{entry['name']}": p[:, :, k, 0] for k, entry in enumerate(truth["categories"])}
    return {name: 100 * part[part > -1].mean() for name, part in parts.items() if (part > -1).any()}


def by_voc(truth: Any, found: Any) -> Any:
    """The same by VOC's rules of 2007 and 2012, which pycocotools does not know."""
    table = np.zeros((2, len(truth["categories"]), 10))  # rule, class, overlap
    boxes = [
        [b["image_id"], b["category_id"], b["difficult"] or b["iscrowd"], *b["bbox"]] for b in truth["annotations"]
    ]
    for k in range(len(truth["categories"])):
        own, hits = np.array([box for box in boxes if box[1] == k]).reshape(-1, 7), []
        low, high = own[:, 3:5] + 1, own[:, 3:5] + own[:, 5:]  # pixels count from 1, corners included
        for d in sorted(found[found[:, 1] == k], key=lambda d: d[7]):
            box = np.array([float(f"{x:.1f}") for x in d[2:6].astype("f4") + np.array([1, 1, 0, 0], "f4")])
            both = (np.minimum(high, box[2:]) - np.maximum(low, box[:2]) + 1).clip(0).prod(1)
            overlap = both / ((high - low + 1).prod(1) + (box[2:] - box[:2] + 1).prod() - both) * (own[:, 0] == d[0])
            hits.append((overlap.max(), overlap.argmax()) if len(own) else (0.0, 0))
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
    names = [f"AP-{entry['name']}" for entry in truth["categories"]]
    means = [{"AP": t.mean(), "AP50": t[:, 0].mean(), "AP75": t[:, 5].mean()} for t in 100 * table]
    return [mean | dict(zip(names, 100 * t.mean(1), strict=True)) for mean, t in zip(means, table, strict=True)]


def main(path: str) -> None:
    """Check the seal, then every test."""
    with open(path, "rb") as file:
        data = file.read()
    if data[-64:] != hashlib.sha256(data[:-64]).hexdigest().encode():
        sys.exit(f"{path} has changed since it was written")
    bundle, worst = zipfile.ZipFile(path), 0.0
    for test in json.loads(bundle.read("manifest.json"))["tests"]:
        if not {test["truth"], test["detections"]} <= set(bundle.namelist()):
            print(f"{test['run']}: its detections were left out")
            continue
        truth, results = (json.loads(bundle.read(test[name])) for name in ("truth", "results"))
        rows = [line.split(",")[:8] for line in bundle.read(test["detections"]).decode().splitlines()[1:]]
        found = np.array(rows, float).reshape(-1, 8)
        found[:, 2:7] = found[:, 2:7].astype("f4")
        families = dict(zip(("coco", "voc07", "voc12"), (by_coco(truth, found), *by_voc(truth, found)), strict=True))
        families["bbox"] = families[truth["info"]["headline"]]
        again = {f"{family}/{name}": value for family, values in families.items() for name, value in values.items()}
        gaps = [abs(v - results["metrics"].get(truth["info"]["prefix"] + name, np.nan)) for name, v in again.items()]
        worst = np.max([worst, *gaps])
        print(f"{test['run']}: {len(gaps)} figures, largest difference {np.max(gaps):.1e}")
    sys.exit(0 if worst <= 1e-9 else 1)


if __name__ == "__main__":
    main(sys.argv[1])
