"""What the hooks cost: training against plain Detectron2, and evaluation with probes against evaluation without.

    python benchmarks/detection_overhead.py --output docs/results/detection_overhead.json

Between evaluations: steps of Detectron2's DefaultTrainer (its loader, its hooks, its model) and of ours with every
hook and probe on, from one config on one machine, in turns of a few steps. "ours, its kernel" uses torchvision's
RoIAlign as Detectron2 does, so that a faster kernel cannot hide a slow hook. Evaluation: our trainer's `evaluate` with
and without probes, in turns, after a first one that nobody times. Ratios are medians over the rounds.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clop_det  # noqa: F401  (makes `import detectron2` work)

# isort: split
import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, TrainerBase
from detectron2.utils.events import EventStorage
from turns import CLOCKS, HIGHER, LOWER, in_turns, ratio, seconds_of, spread, told, write_figures

from clop_det.annotations.datasets import register_datasets, set_num_classes
from clop_det.config.reading import read_config
from clop_det.detection.scaling import fit_to_processes
from clop_det.detection.trainer import DetectionTrainer

CONFIG = "configs/detection/digits/faster_rcnn_R_18_FPN_digits.yaml"
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
    for stepper in steppers.values():
        stepper.run(arguments.warm_up)
    return in_turns(
        {
            name: timed(arguments, functools.partial(stepper.run, 1), arguments.steps)
            for name, stepper in steppers.items()
        },
        arguments.rounds,
    )


def time_evaluation(arguments: argparse.Namespace, root: Path) -> dict[str, list[float]]:
    """Seconds an evaluation, with and without probes, in every round."""
    trainers = {
        name: DetectionTrainer(make_config(arguments, root / name, "PROBE.ENABLED", enabled), {}, train=False)
        for name, enabled in ((WITH, "True"), (WITHOUT, "False"))
    }
    for trainer in trainers.values():
        trainer.evaluate()
    runs = {name: timed(arguments, trainer.evaluate) for name, trainer in trainers.items()}
    return in_turns(runs, arguments.evaluations)


def timed(arguments: argparse.Namespace, function: Callable[[], Any], times: int = 1) -> Callable[[], float]:
    """A run for `in_turns`: seconds of a call, the mean of `times`, the GPU's work included."""

    def run() -> None:
        for _ in range(times):
            function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return lambda: seconds_of(run, CLOCKS[arguments.clock]) / times


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
    ratios = {}
    if training:
        for name in (OURS, OUR_KERNEL):
            ratios[f"training speed of {name} over Detectron2"] = ratio(training[PLAIN], training[name], HIGHER)
    if evaluation:
        ratios["evaluation with probes over without"] = ratio(evaluation[WITH], evaluation[WITHOUT], LOWER)
    print(f"\n{'':20} median   (smallest to largest)")
    for name, values in {**training, **evaluation}.items():
        print(f"{name:20} {told(spread(values), 3)} s")
    for name, found in ratios.items():
        print(f"{name}: {told(found, 3)}")
    figures = {"training_seconds_a_step": training, "evaluation_seconds": evaluation}
    write_figures(arguments.output, arguments, ratios, **figures)


if __name__ == "__main__":
    main()
