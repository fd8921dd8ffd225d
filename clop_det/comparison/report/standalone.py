"""Compute every AP of COCO's rule in a report.zip again: python verify.py report.zip (needs numpy and pycocotools)."""

import contextlib
import hashlib
import json
import sys
import zipfile
from typing import Any

import numpy as np
from pycocotools import coco, cocoeval


def _by_coco(truth: Any, found: Any) -> dict[tuple[str, str], Any]:
    image, category, left, top, right, bottom, score, _ = np.r_[found, [[0, 0, -2, -2, -1, -1, 0, 0]]].T  # never empty
    with contextlib.redirect_stdout(None):
        index = coco.COCO()
        index.dataset = truth
        index.createIndex()
        boxes = index.loadRes(np.c_[image, left, top, right - left, bottom - top, score, category])
        run = cocoeval.COCOeval(index, boxes, "bbox")
        run.params.maxDets = [truth["info"]["most"] + 1]
        run.evaluate()
        run.accumulate()
    p = run.eval["precision"][..., -1]  # overlap, recall, class, area
    parts = {"AP": p[..., 0], "AP50": p[0, ..., 0], "AP75": p[5, ..., 0], "APs": p[..., 1], "APm": p[..., 2]}
    parts |= {"APl": p[..., 3]} | {f"AP-{own['name']}": p[:, :, k, 0] for k, own in enumerate(truth["categories"])}
    return {("coco", name): 100 * part[part > -1].mean() for name, part in parts.items() if (part > -1).any()}


def check(path: str, rules: Any) -> None:
    """Check the seal of the archive, then every test; the exit status is 0 if all figures agree to 1e-9."""
    data = np.fromfile(path, "u1").tobytes()
    if data[-64:] != hashlib.sha256(data[:-64]).hexdigest().encode():
        sys.exit(f"{path} has changed since it was written")
    bundle, gaps = zipfile.ZipFile(path), [0.0]
    manifest, names = json.loads(bundle.read("manifest.json")), {*bundle.namelist()}
    for test in (test for test in manifest["tests"] if {test["truth"], test["detections"]} <= names):
        truth, results = (json.loads(bundle.read(test[name])) for name in ("truth", "results"))
        table = np.loadtxt(bundle.open(test["detections"]), "f4", delimiter=",", skiprows=1, usecols=range(8))
        for (rule, name), value in rules(truth, table.reshape(-1, 8).astype(float)).items():
            for family in {rule, "bbox" if rule == truth["info"]["headline"] else rule}:
                gaps.append(abs(value - results["metrics"].get(f"{truth['info']['prefix']}{family}/{name}", np.nan)))
        print(f"{test['run']}: {len(gaps) - 1} figures so far, largest difference {np.max(gaps):.1e}")
    print("left out of the archive:", *(manifest["left_out"] or ["nothing"]))
    sys.exit(0 if np.max(gaps) <= 1e-9 else 1)


if __name__ == "__main__":
    check(sys.argv[1], _by_coco)
