"""A small comparison whose trainers are stand-ins."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import yaml

from clop_det.commands.compare import main
from clop_det.comparison.running.launchers import Commands
from tests.unrendered import unrendered

REPORT = Path("report")
FAKE = Path(__file__).with_name("fake_job.py")
COMMANDS: Commands = {kind: (sys.executable, str(FAKE), kind) for kind in ("pretrain", "convert", "detect", "inspect")}
ROOT = Path(__file__).resolve().parents[2]


def pretrain_config(steps: int = 6) -> str:
    """A pretraining config on digits, which need not be made for a plan."""
    root = "digits://cluttered?train=20&val=10"
    return f"INPUT: {{FORMAT: RGB}}\nSOLVER: {{MAX_ITER: {steps}}}\nCLASSIFICATION: {{ROOT: '{root}'}}\n"


def detect_config(steps: int = 8, tests: Sequence[str] = ("b",)) -> str:
    """A detection config on digit scenes: data set `a` to train on, and `tests`."""
    entry = {"LAYOUT": "coco", "ROOT": "digits://scenes?train=4&val=2&test=2"}
    splits = {"a": "train", **dict.fromkeys(tests, "test")}
    register = [{"NAME": name, "SPLIT": split, **entry} for name, split in splits.items()]
    sets = {"REGISTER": register, "TRAIN": ["a"], "TEST": list(tests)}
    return yaml.safe_dump({"SOLVER": {"MAX_ITER": steps}, "DATASETS": sets})


class Workplace:
    """A folder with a comparison's YAML, the configs it names and the stand-ins' control folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.control = folder / "control"
        self.output = folder / "out"
        self.config = folder / "compare.yaml"
        self.control.mkdir(parents=True)
        (folder / "pretrain.yaml").write_text(pretrain_config())
        (folder / "detect.yaml").write_text(detect_config())
        self.write({})

    def write(self, changes: dict) -> Path:
        """The YAML: two initialisations and one seed unless `changes` (keys of COMPARE) say otherwise."""
        compare = {
            "INITS": ["random", "clop"],
            "PRETRAIN": {"CONFIG": "pretrain.yaml"},
            "DETECTION": [{"NAME": "scenes", "CONFIG": "detect.yaml"}],
        }
        self.config.write_text(yaml.safe_dump({"COMPARE": {**compare, **changes}, "OUTPUT_DIR": str(self.output)}))
        return self.config

    def run(self, *arguments: str, rendered: bool = False) -> int:
        """Run the comparison in this process; `rendered`: with the pictures of its report."""
        with nullcontext() if rendered else unrendered():
            return main(["--config-file", str(self.config), *arguments], COMMANDS)

    def start(self, *arguments: str, root: Path = ROOT) -> subprocess.Popen[str]:
        """Start it as a process of its own, which can be killed, with the package that lies in `root`."""
        script = f"""
            import sys
            from clop_det.commands.compare import main
            from clop_det.commands.common import run_tool
            commands = {{k: (sys.executable, {str(FAKE)!r}, k) for k in {list(COMMANDS)!r}}}
            run_tool(lambda argv: main(argv, commands))
        """
        words = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), "--config-file", str(self.config)]
        return subprocess.Popen(
            [*words, *arguments],
            cwd=root,
            env={**os.environ, "FAKE_JOBS": str(self.control), "PYTHONPATH": str(root)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def started(self) -> list[str]:
        """ "start NAME" or "resume NAME" for every job that was started."""
        path = self.control / "started.txt"
        return path.read_text().splitlines() if path.exists() else []


def wait_for(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    """Wait until `condition()`; the limit is there to end a test that hangs, wide enough for a busy machine."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def lines(text: str) -> list[dict[str, str]]:
    """The rows of a CSV table."""
    return list(csv.DictReader(io.StringIO(text)))


def results(workplace: Workplace) -> list[dict[str, str]]:
    """The rows of the report's results.csv."""
    return lines((workplace.output / REPORT / "results.csv").read_text())
