"""Run folders that keep their detections, without a training: random ones, whose figures `score` gives."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from clop_det.detection.evaluation import flatten, score
from clop_det.detection.ground_truth import Detections
from clop_det.detection.stored import Tested, write_tested
from tests.detection.test_coco_backends import scene


def a_test(seed: int, noise: float, masks: bool = False) -> Tested:
    """One test set; what is found there differs from seed to seed, and is further off the more `noise` there is."""
    truth, found = scene(0, crowds=True, difficult=True, most=20)
    rng = np.random.default_rng(seed)
    kept = np.flatnonzero(rng.random(len(found)) < 0.8)
    scores = np.round(rng.random(len(kept)), 2)
    order = np.lexsort((-scores, found.image[kept]))
    kept = kept[order]
    box = np.sort((found.box[kept] + rng.normal(0, noise, (len(kept), 4))).reshape(-1, 2, 2), axis=1).reshape(-1, 4)
    # A network gives numbers of 32 bits.
    box, scores = (values.astype(np.float32).astype(np.float64) for values in (box, scores[order]))
    codes = [found.masks[k] for k in kept] if masks and found.masks else None
    found = Detections(found.image[kept], found.category[kept], box, scores, codes)
    truth = truth if masks else dataclasses.replace(truth, masks=[None] * len(truth.box))
    files = [f"{k}.png" for k in range(len(truth.sizes))]
    return Tested("test", "", "voc12", 100, files, truth, found)


def kept_run(folder: Path, init: str, seed: int, masks: bool = False) -> Path:
    """A finished fine-tuning as a comparison's job leaves it."""
    run = folder / "jobs" / f"detect-{init}-{seed}"
    run.mkdir(parents=True)
    test = a_test(seed, {"random": 4.0}.get(init, 1.0), masks)
    write_tested(run, test)
    evaluation = score(test.truth, test.found, test.headline)
    results = {"kind": "detection", "seed": seed, "metrics": {**flatten(evaluation.families), "probe/knn_top1": 0.5}}
    (run / "results.json").write_text(json.dumps(results))
    record = {"kind": "detect", "name": run.name, "init": init, "seed": seed, "detection": "scenes"}
    attempts = [{"seconds": 60.0 + seed, "cores": 2, "exit_code": 0}]
    (run / "job.json").write_text(json.dumps({**record, "attempts": attempts}))
    (run / "config.yaml").write_text("SEED: 0\n")
    return run


def kept_comparison(folder: Path, masks: bool = False) -> Path:
    """Two initialisations and two seeds."""
    for init in ("random", "clop"):
        for seed in range(2):
            kept_run(folder, init, seed, masks)
    return folder
