"""Stands in for the trainers in tests: honours their command lines and their run folders, trains nothing.

python fake_job.py KIND ARGUMENTS...; the behaviour of runs can be changed by files in $FAKE_JOBS (slow, fail-NAME).
"""

from __future__ import annotations

import base64
import json
import math
import os
import random
import signal
import sys
import time
from pathlib import Path

import yaml

PROVENANCE = {"commit": "0123456789abcdef", "torch": "2.0", "device": "cpu (fake)", "finished": "2026-01-02T03:04:05Z"}
LEVEL = {"random": 20.0, "info_nce": 24.0, "supcon": 26.0, "clop": 29.0, "cross_entropy": 25.0}
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def main() -> int:
    kind, *arguments = sys.argv[1:]
    control = Path(os.environ["FAKE_JOBS"])
    if kind in ("pretrain", "detect"):
        return train(kind, arguments, control)
    folder = Path(arguments[1]).parent if kind == "convert" else Path(arguments[1])
    note(control, folder.name, "start")
    if kind == "convert":
        source = Path(arguments[0])
        assert source.is_file(), source
        Path(arguments[1]).write_bytes(source.read_bytes() if source.stat().st_size < 1000 else b"weights")
        write(folder, {"kind": "conversion", "metrics": {}, "provenance": PROVENANCE})
    else:
        inspect(folder)
    return 0


def train(kind: str, arguments: list[str], control: Path) -> int:
    cfg_file = Path(arguments[arguments.index("--config-file") + 1])
    cfg = yaml.safe_load(cfg_file.read_text())
    folder = Path(cfg["OUTPUT_DIR"])
    resume = "--resume" in arguments
    name = folder.name
    note(control, name, "resume" if resume else "start")
    if (folder / "config.yaml").exists() and not resume:
        print("error: the folder already holds this run")
        return 2
    (folder / "config.yaml").write_text(yaml.safe_dump(cfg))
    if (control / f"fail-{kind}").exists() or any(name.startswith(p.name[5:]) for p in control.glob("fail-*")):
        print("Traceback\nerror: made to fail")
        return 3
    (folder / "parent.txt").write_text(str(os.getppid()))
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stop.append(number))
    state = folder / "state.json"
    done = json.loads(state.read_text()) if state.exists() else 0
    steps = cfg["SOLVER"]["MAX_ITER"]
    pause = 0.05 if (control / "slow").exists() else 0.0
    for iteration in range(done, steps):
        time.sleep(pause)
        line(folder, kind, cfg, iteration, steps)
        state.write_text(str(iteration + 1))
        if stop:
            return 75
    if not (control / f"forget-{kind}").exists():
        (folder / "model_final.pth").write_bytes(b"weights")
    finish(folder, kind, cfg)
    return 0


def figures(kind: str, cfg: dict, share: float) -> dict:
    weights = cfg["MODEL"]["WEIGHTS"]
    init = cfg["LOSS"]["NAME"] if kind == "pretrain" else next((k for k in LEVEL if f"-{k}" in weights), "random")
    draw = random.Random(f"{init}{cfg['SEED']}")
    noise, paired = draw.gauss(0, 0.3), random.Random(cfg["SEED"]).gauss(0, 2)
    level = (LEVEL[init] + noise + paired) * (1 - math.exp(-3 * share))
    probes = {
        "probe/knn_top1": 0.2 + LEVEL[init] / 60,
        "probe/linear_top1": 0.25 + LEVEL[init] / 60,
        "probe/rankme": 40.0,
        "probe/nc1": 3.0,
    }
    if kind == "pretrain":
        return probes
    probes |= {"probe/object_knn_top1": 0.1 + LEVEL[init] / 60, "probe/object_linear_top1": 0.15 + LEVEL[init] / 60}
    families = {"bbox/AP": level, "bbox/AP50": 1.7 * level, "bbox/AP75": 0.8 * level, "coco/AP": 0.9 * level}
    families |= {"voc07/AP": level, "voc07/AP50": 1.7 * level}
    tests = cfg["DATASETS"]["TEST"]
    if len(tests) == 1:
        return {**families, **probes}
    # Tuning: validation prefers a middle learning rate, the test set a large one.
    gain = {"val": -abs(cfg["SOLVER"]["BASE_LR"] - 0.02) * 100, "test": cfg["SOLVER"]["BASE_LR"] * 100}
    return {f"{name}/{key}": value + gain[name] for name in tests for key, value in families.items()} | probes


def line(folder: Path, kind: str, cfg: dict, iteration: int, steps: int) -> None:
    entry = {"iteration": iteration, "total_loss": 1.0}
    if iteration % max(1, steps // 4) == 0 or iteration == steps - 1:
        entry |= figures(kind, cfg, iteration / max(steps - 1, 1))
    with (folder / "metrics.json").open("a") as file:
        file.write(json.dumps(entry) + "\n")
    with (folder / "timing.json").open("a") as file:
        file.write(json.dumps({"iteration": iteration, "eta_seconds": 0.05 * (steps - iteration)}) + "\n")


def finish(folder: Path, kind: str, cfg: dict) -> None:
    metrics = figures(kind, cfg, 1.0)
    results = {
        "kind": "pretraining" if kind == "pretrain" else "detection",
        "seed": cfg["SEED"],
        "provenance": PROVENANCE,
    }
    if kind == "pretrain":
        metrics = {key.removeprefix("probe/"): value for key, value in metrics.items()}
        results |= {"init": cfg["LOSS"]["NAME"], "label_fraction": cfg["LABELS"]["FRACTION"]}
        results["singular_values"] = [10 * math.exp(-0.1 * i * 30 / LEVEL[cfg["LOSS"]["NAME"]]) for i in range(64)]
    write(folder, {**results, "metrics": metrics})


def inspect(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "0.png").write_bytes(PIXEL)
    truth = [{"box": [0.1, 0.1, 0.6, 0.7], "label": "7"}, {"box": [0.7, 0.7, 0.95, 0.95], "label": "3"}]
    found = [
        {"box": [0.1, 0.1, 0.6, 0.68], "label": "7", "score": 0.9},
        {"box": [0.5, 0.1, 0.9, 0.4], "label": "1", "score": 0.8},
    ]
    image = {"file": "a/0001.jpg", "image": "0.png", "ground_truth": truth, "detections": found}
    (folder / "examples.json").write_text(json.dumps({"images": [image]}))
    write(
        folder,
        {"kind": "inspection", "metrics": {}, "singular_values_before": [3.0, 2.0, 1.0, 0.5], "provenance": PROVENANCE},
    )


def write(folder: Path, results: dict) -> None:
    (folder / "results.json").write_text(json.dumps(results))


def note(control: Path, name: str, how: str) -> None:
    with (control / "started.txt").open("a") as file:
        file.write(f"{how} {name}\n")


if __name__ == "__main__":
    sys.exit(main())
