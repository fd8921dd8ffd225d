"""Processor time and peak memory of every quick answer, and of each command up to its first step.

python benchmarks/start_up.py            # about two minutes on two cores

`import torch, torchvision` is measured beside them: what works with torch cannot start faster.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPEATS = 3
QUICK = [
    ["--help"],
    ["--version"],
    ["pretrain", "--help"],
    ["train", "--help"],
    ["convert", "--help"],
    ["predict", "--help"],
    ["compare", "--help"],
    ["rank", "--help"],
    ["doctor", "--help"],
    ["simulate", "--help"],
    ["train", "--wrong"],
    ["train"],
    ["pretrain", "--config-file", "absent.yaml"],
    ["config", "list"],
    ["config", "keys", "LABELS"],
]
DIGITS = "detection/digits/faster_rcnn_R_18_FPN_digits.yaml"
SMALL = ["MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", "1", "SOLVER.IMS_PER_BATCH", "2"]
# Each ends after its first step, or with its first output.
STEPS = [
    ["pretrain", "--config-file", "pretrain/resnet18_digits.yaml", "PROBE.ENABLED", "False", *SMALL],
    ["doctor", "--config-file", DIGITS, "MODEL.DEVICE", "cpu"],
    ["compare", "--config-file", "compare/digits.yaml", "--dry-run"],
]


def measured(words: list[str], folder: str) -> tuple[float, float]:
    """(seconds of processor time, MiB at the peak) of a process and those it waited for; the least of a few runs."""
    runs = []
    for _ in range(REPEATS):
        process = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = 0
        runs.append((used.ru_utime + used.ru_stime, used.ru_maxrss / 1024))
    return min(seconds for seconds, _ in runs), min(peak for _, peak in runs)


def main() -> None:
    """Print one line a command."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    root = str(Path(__file__).resolve().parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-W", "ignore", "-m", "clop_det.commands.main"]
    floor = [sys.executable, "-c", "import torch, torchvision"]
    print(f"{'command':60} {'s':>6} {'MiB':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for name, words in [
            *((f"clop-det {' '.join(words)}", [*command, *words]) for words in QUICK),
            ("import torch, torchvision", floor),
        ]:
            seconds, peak = measured(words, folder)
            print(f"{name:60} {seconds:6.2f} {peak:6.0f}", flush=True)
        for words in STEPS:
            place = tempfile.mkdtemp(dir=folder)
            seconds, peak = measured([*command, *words], place)
            print(f"{'first step: clop-det ' + words[0]:60} {seconds:6.2f} {peak:6.0f}", flush=True)


if __name__ == "__main__":
    main()
