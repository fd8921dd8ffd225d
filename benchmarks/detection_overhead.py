"""What the hooks cost: training against plain Detectron2, and evaluation with probes against evaluation without.

    python benchmarks/detection_overhead.py --output docs/results/detection_overhead.json

Between evaluations: steps of Detectron2's DefaultTrainer (its loader, its hooks, its model) and of ours with every
hook and probe on, from one config on one machine, in turns of a few steps. "ours, its kernel" uses torchvision's
RoIAlign as Detectron2 does, so that a faster kernel cannot hide a slow hook. Evaluation: our trainer's `evaluate` with
and without probes, in turns, after a first one that nobody times. Ratios are medians over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clop_det  # noqa: F401  (makes `import detectron2` work)

# isort: split
import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, TrainerBase
from detectron2.utils.events import EventStorage

from clop_det.annotations.datasets import register_datasets, set_num_classes
from clop_det.config.reading import read_config
from clop_det.detection.scaling import fit_to_processes
from clop_det.detection.trainer import DetectionTrainer
from clop_det.files import write_json
from clop_det.provenance import collect_provenance

CONFIG = "configs/detection/digits/faster_rcnn_R_18_FPN_digits.yaml"
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
PLAIN, OURS, OUR_KERNEL = "Detectron2", "ours", "ours, its kernel"
WITH, WITHOUT = "with probes", "without probes"


class _Stepper:
    """A trainer taken step by step, with all its hooks, inside its own event storage."""

    def __init__(self, trainer: TrainerBase) -> None:
        self._trainer = trainer
        # As if resumed after the first step: ours would otherwise probe the initialisation first.
        trainer.start_iter, trainer.max_iter, trainer.iter = 1, 1 << 30, 1
        self._storage = trainer.storage = EventStorage(1)
        with self._storage:
            trainer.before_train()

    def run(self, steps: int) -> None:
        with self._storage:
            for _ in range(steps):
                self._trainer.before_step()
                self._trainer.run_step()
                self._trainer.after_step()
                self._trainer.iter += 1


class _Plain(DefaultTrainer):
    """Detectron2's trainer; the evaluation, which lies outside what is timed, is taken away."""

    @classmethod
    def test(cls, cfg: CfgNode, model: Any, evaluators: Any = None) -> dict[str, Any]:
        return {}


def make_config(arguments: argparse.Namespace, folder: Path, *options: str) -> CfgNode:
    """The config of one contender: no evaluation or checkpoint within what is timed."""
    never = ["TEST.EVAL_PERIOD", "0", "SOLVER.CHECKPOINT_PERIOD", str(1 << 29), "TEST.PRECISE_BN.ENABLED", "False"]
    cfg = read_config(arguments.config_file, [*never, "SOLVER.MAX_ITER", str(1 << 30), *arguments.opts, *options])
    cfg.defrost()
    cfg.SOLVER.PRECISION = "fp32"  # what Detectron2 computes in
    cfg.OUTPUT_DIR = str(folder)
    folder.mkdir(parents=True, exist_ok=True)
    register_datasets(cfg.DATASETS.REGISTER)
    set_num_classes(cfg)
    fit_to_processes(cfg, 1)
    cfg.freeze()
    return cfg


def build_ours(arguments: argparse.Namespace, folder: Path, *options: str) -> _Stepper:
    """Our trainer with all hooks."""
    trainer = DetectionTrainer(make_config(arguments, folder, *options), {})
    trainer.data_loader = trainer._loader("train", 0)
    return _Stepper(trainer)


def time_training(arguments: argparse.Namespace, root: Path) -> dict[str, list[float]]:
    """Seconds a step, of every contender in every round."""
    plain = _Plain(make_config(arguments, root / "plain"))
    steppers = {
        PLAIN: _Stepper(plain),
        OURS: build_ours(arguments, root / "ours"),
        OUR_KERNEL: build_ours(arguments, root / "kernel", "MODEL.ROI_ALIGN", "torchvision"),
    }
    clock = CLOCKS[arguments.clock]
    seconds: dict[str, list[float]] = {name: [] for name in steppers}
    for stepper in steppers.values():
        stepper.run(arguments.warm_up)
    names = list(steppers)
    for turn in range(arguments.rounds):
        # Another order each round: whoever comes first finds the caches of whoever came last.
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            seconds[name].append(timed(clock, lambda name=name: steppers[name].run(arguments.steps)) / arguments.steps)
    return seconds


def time_evaluation(arguments: argparse.Namespace, root: Path) -> dict[str, list[float]]:
    """Seconds an evaluation, with and without probes, in every round."""
    trainers = {
        name: DetectionTrainer(make_config(arguments, root / name, "PROBE.ENABLED", enabled), {}, train=False)
        for name, enabled in ((WITH, "True"), (WITHOUT, "False"))
    }
    clock = CLOCKS[arguments.clock]
    for trainer in trainers.values():
        trainer.evaluate()
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    for turn in range(arguments.evaluations):
        for name in (list(trainers), list(trainers)[::-1])[turn % 2]:
            seconds[name].append(timed(clock, trainers[name].evaluate))
    return seconds


def timed(clock: Callable[[], float], function: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = clock()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


def ratio(numerator: list[float], denominator: list[float]) -> dict[str, float]:
    """Median, smallest and largest of the ratios within the rounds."""
    values = sorted(a / b for a, b in zip(numerator, denominator, strict=True))
    return {"median": statistics.median(values), "min": values[0], "max": values[-1]}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", default=CONFIG)
    parser.add_argument("--rounds", type=int, default=7, help="0: training is not timed")
    parser.add_argument("--steps", type=int, default=6, help="a round and contender")
    parser.add_argument("--warm-up", type=int, default=4, help="steps of each contender that are not timed")
    parser.add_argument("--evaluations", type=int, default=3, help="timed, of each kind")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: this program's own processor time")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as the processor has")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("opts", nargs="*", help="KEY VALUE pairs")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        training = time_training(arguments, Path(folder)) if arguments.rounds else {}
        evaluation = time_evaluation(arguments, Path(folder)) if arguments.evaluations else {}
    result: dict[str, Any] = {"training_seconds_a_step": training, "evaluation_seconds": evaluation}
    if training:
        result["speed_against_detectron2"] = {n: ratio(training[PLAIN], training[n]) for n in (OURS, OUR_KERNEL)}
    if evaluation:
        result["evaluation_cost_of_probes"] = ratio(evaluation[WITH], evaluation[WITHOUT])
    report(result)
    if arguments.output:
        settings = {key: value for key, value in vars(arguments).items() if key != "output"}
        write_json(arguments.output, {**result, "settings": settings, "provenance": collect_provenance()})


def report(result: dict[str, Any]) -> None:
    """Print the figures."""
    print(f"\n{'':20} median   (smallest to largest)")
    for group in ("training_seconds_a_step", "evaluation_seconds"):
        for name, values in result[group].items():
            print(f"{name:20} {statistics.median(values):6.3f} s ({min(values):.3f} to {max(values):.3f})")
    for name, found in result.get("speed_against_detectron2", {}).items():
        line = f"{found['median']:.3f}   ({found['min']:.3f} to {found['max']:.3f})"
        print(f"training speed of {name} against Detectron2: {line}")
    if found := result.get("evaluation_cost_of_probes"):
        line = f"{found['median']:.3f}   ({found['min']:.3f} to {found['max']:.3f})"
        print(f"evaluation with probes against without: {line}")


if __name__ == "__main__":
    main()
