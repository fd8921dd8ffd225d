"""Compute every AP of COCO's rule in a report.zip again: python verify.py report.zip (needs numpy and pycocotools)."""

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
    """Rule -> name -> percent; the columns of `found` are image, class, x1, y1, x2, y2, score, place in the file."""
    boxes = np.c_[found[:, [0, 2, 3]], found[:, 4:6] - found[:, 2:4], found[:, [6, 1]]]  # image, box, score, class
    boxes = np.r_[boxes, [[0, -2, -2, 1, 1, 0, 0]]]  # a last one, outside: pycocotools refuses an empty list
    with contextlib.redirect_stdout(None):
        index = COCO()
        index.dataset = truth
        index.createIndex()
        run = COCOeval(index, index.loadRes(boxes), "bbox")
        run.params.maxDets = [truth["info"]["most"] + 1]
        run.evaluate()
        run.accumulate()
    p = run.eval["precision"][..., -1]  # overlap, recall, class, area
    parts = {"AP": p[..., 0], "AP50": p[0, ..., 0], "AP75": p[5, ..., 0]}
    parts |= {name: p[..., area] for area, name in enumerate(("APs", "APm", "APl"), 1)}
    parts |= {f"AP-{entry['name']}": p[:, :, k, 0] for k, entry in enumerate(truth["categories"])}
    return {"coco": {name: 100 * part[part > -1].mean() for name, part in parts.items() if (part > -1).any()}}


def check(path: str, rules: Any) -> None:
    """Check the seal of the archive, then every test; the exit status is 0 if all figures agree to 1e-9."""
    with open(path, "rb") as file:
        data = file.read()
    if data[-64:] != hashlib.sha256(data[:-64]).hexdigest().encode():
        sys.exit(f"{path} has changed since it was written")
    bundle, gaps = zipfile.ZipFile(path), [0.0]
    for test in json.loads(bundle.read("manifest.json"))["tests"]:
        if not {test["truth"], test["detections"]} <= set(bundle.namelist()):
            print(f"{test['run']}: its detections were left out")
            continue
        truth, results = (json.loads(bundle.read(test[name])) for name in ("truth", "results"))
        rows = [line.split(",")[:8] for line in bundle.read(test["detections"]).decode().splitlines()[1:]]
        again = rules(truth, np.array(rows, "f4").astype(float).reshape(-1, 8))
        again["bbox"] = again.get(truth["info"]["headline"], {})
        figures = {f"{rule}/{name}": value for rule, own in again.items() for name, value in own.items()}
        own = [abs(v - results["metrics"].get(truth["info"]["prefix"] + name, np.nan)) for name, v in figures.items()]
        print(f"{test['run']}: {len(own)} figures, largest difference {np.max(own):.1e}")
        gaps += own
    sys.exit(0 if np.max(gaps) <= 1e-9 else 1)


if __name__ == "__main__":
    check(sys.argv[1], by_coco)
