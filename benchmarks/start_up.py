"""Processor time and peak memory of every quick answer, and of each command up to its first step.

    python benchmarks/start_up.py            # about two minutes on two cores

`import torch, torchvision` is measured beside them, in turns, without the end of its process. A figure is the least of
the rounds; a ratio is one within the rounds.
"""

from __future__ import annotations

import argparse
import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from turns import LOWER, in_turns, ratio, spread, told, write_figures

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
SMALL = ["MODEL.DEVICE", "cpu", "SOLVER.IMS_PER_BATCH", "2", "PROBE.ENABLED", "False"]
# A user's module, which ends the process as soon as it has taken a step.
ENDS = """import os

from clop_det.pretraining.step import PretrainStep

step = PretrainStep.__call__


def first(self, iteration):
    step(self, iteration)
    os._exit(0)


PretrainStep.__call__ = first
"""
# Each ends after its first step, or with its first output.
STEPS = [
    ["pretrain", "--config-file", "pretrain/resnet18_digits.yaml", *SMALL, "IMPORTS", "['ends.py']"],
    ["doctor", "--config-file", DIGITS, "MODEL.DEVICE", "cpu"],
    ["compare", "--config-file", "compare/digits.yaml", "--dry-run"],
]
FLOOR = "import torch, torchvision"


def measured(words: list[str], folder: str, peaks: list[float]) -> float:
    """Seconds of processor time of a process and those it waited for; its MiB at the peak go to `peaks`."""
    place = tempfile.mkdtemp(dir=folder)
    (Path(place) / "ends.py").write_text(ENDS)
    process = subprocess.Popen(words, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0
    peaks.append(used.ru_maxrss / 1024)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print one line a command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    root = str(Path(__file__).resolve().parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-W", "ignore", "-m", "clop_det.commands.main"]
    words = {f"clop-det {' '.join(words)}": [*command, *words] for words in QUICK}
    words[FLOOR] = [sys.executable, "-c", f"{FLOOR}\nimport os\nos._exit(0)"]
    words |= {f"first step: clop-det {words[0]}": [*command, *words] for words in STEPS}
    peaks: dict[str, list[float]] = {name: [] for name in words}
    print(f"{'command':60} {'s':>6} {'MiB':>6}")
    with tempfile.TemporaryDirectory() as folder:
        runs: dict[str, Callable[[], float]] = {
            name: functools.partial(measured, own, folder, peaks[name]) for name, own in words.items()
        }
        seconds = in_turns(runs, arguments.rounds)
    for name, own in seconds.items():
        print(f"{name:60} {min(own):6.2f} {min(peaks[name]):6.0f}")
    steps = [name for name in words if name.startswith("first step")]
    ratios = {f"{name} over {FLOOR}": ratio(seconds[name], seconds[FLOOR], LOWER) for name in steps}
    quick = [name for name in words if name not in (FLOOR, *steps)]
    for what, figures in (("slowest quick answer, s", seconds), ("largest quick answer, MiB", peaks)):
        most = [max(figures[name][turn] for name in quick) for turn in range(arguments.rounds)]
        ratios[what] = {**spread(most), "better": LOWER}
    for name, found in ratios.items():
        print(f"{name}: {told(found)}")
    write_figures(arguments.output, arguments, ratios, seconds=seconds, peak_mib=peaks)


if __name__ == "__main__":
    main()
