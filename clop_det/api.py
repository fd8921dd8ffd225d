"""The steps of an experiment as Python functions; the commands are these with an argument parser in front.

    from clop_det import api

    run = api.pretrain("pretrain/resnet18_digits.yaml", {"LOSS.NAME": "clop", "OUTPUT_DIR": "output/clop"})
    api.convert(run.weights, "output/clop.pth")
    detector = api.finetune("detection/digits/faster_rcnn_R_18_FPN_digits.yaml", {"MODEL.WEIGHTS": "output/clop.pth"})
    print(detector.figures["bbox/AP"])

A config is the path of a YAML file, the name of a shipped one or of Detectron2's model zoo, or a `CfgNode`. Overrides
are a mapping {key: value}, or the words of a command line. Bad input raises `UserError`; a stop signal during training
raises `StopRequested` after the state has been saved. Each function imports its own stage when it is called.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from detectron2.config import CfgNode

from clop_det.config.files import read_pairs, value_from
from clop_det.config.reading import COMMAND_LINE, merge_mapping, read_config
from clop_det.conversion.convert import convert_checkpoint as convert
from clop_det.conversion.export import export_checkpoint as export
from clop_det.conversion.stock import convert_to_stock
from clop_det.engine.launching import Launch, expected_world_size, is_first_process, launch_workers
from clop_det.engine.leaving import under_torchrun
from clop_det.engine.run_folder import RESULTS_NAME, own_run_folder, settle_seed
from clop_det.errors import UserError
from clop_det.files import StrPath
from clop_det.keys import value_of

if TYPE_CHECKING:
    from clop_det.comparison.experiment import Compared
    from clop_det.comparison.report.verification import Verified
    from clop_det.detection.predict import Predictions, Progress
    from clop_det.ranking.ranking import Ranking

__all__ = [
    "Launch",
    "Run",
    "compare",
    "convert",
    "convert_to_stock",
    "evaluate",
    "export",
    "finetune",
    "predict",
    "pretrain",
    "rank",
    "read",
    "verify",
]

Config: TypeAlias = StrPath | CfgNode
Overrides: TypeAlias = Mapping[str, Any] | Sequence[str]


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: of the run.
        weights: the final checkpoint; of an evaluation what was evaluated.
        file: the JSON file with the figures.
    """

    folder: Path
    weights: Path
    file: Path

    @cached_property
    def results(self) -> dict[str, Any]:
        """Everything that the file says."""
        content: dict[str, Any] = json.loads(self.file.read_text(encoding="utf-8"))
        return content

    @property
    def figures(self) -> dict[str, float]:
        """Name -> final figure, e.g. "bbox/AP" in percent or "knn_top1"."""
        return dict(self.results["metrics"])

    @property
    def provenance(self) -> dict[str, Any]:
        """Versions, commit, seed, device and hash of the config that made the figures."""
        return dict(self.results["provenance"])


def pretrain(config: Config, overrides: Overrides = (), *, launch: Launch | None = None) -> Run:
    """Pretrain a network; the run folder is OUTPUT_DIR.

    Raises:
        UserError: whatever is wrong with the config, the data or the folder.
        StopRequested: after a stop signal; `Launch(resume=True)` goes on.
    """
    from clop_det.pretraining import run as pretraining
    from clop_det.pretraining.data import record_split
    from clop_det.pretraining.trainer import final_checkpoint

    how = launch or Launch()
    cfg = _seeded(config, overrides, how)
    data = pretraining.prepare(cfg, expected_world_size(how, cfg.MODEL.DEVICE))
    with own_run_folder(cfg, how.resume, is_first_process(how)):
        record_split(cfg, data)
        del data  # each worker opens its own
        launch_workers(pretraining.worker, cfg, how)
    return _run(cfg, final_checkpoint(cfg))


def finetune(config: Config, overrides: Overrides = (), *, launch: Launch | None = None) -> Run:
    """Fine-tune a detector from MODEL.WEIGHTS (empty: random numbers) and evaluate it; see `pretrain` for the rest."""
    from clop_det.detection import run as detection
    from clop_det.detection.run_data import keep_data
    from clop_det.detection.stock_config import write_stock_config

    cfg, how = _checked(config, overrides, launch or Launch())
    with own_run_folder(cfg, how.resume, is_first_process(how)):
        keep_data(cfg, train=True, resume=how.resume)
        if is_first_process(how):
            write_stock_config(cfg)
        launch_workers(detection.worker, cfg, how)
    return _run(cfg, Path(cfg.OUTPUT_DIR) / "model_final.pth")


def evaluate(config: Config, overrides: Overrides = (), *, launch: Launch | None = None) -> Run:
    """Evaluate the detector in MODEL.WEIGHTS on DATASETS.TEST.

    With MODEL.WEIGHTS empty, or `Launch(resume=True)`, the weights of the run in OUTPUT_DIR are evaluated. `pretrain`
    says the rest.
    """
    from clop_det.detection import run as detection
    from clop_det.detection.run_data import keep_data

    cfg, how = _checked(config, overrides, dataclasses.replace(launch or Launch(), eval_only=True))
    keep_data(cfg, train=False, resume=False)
    launch_workers(detection.worker, cfg, how)
    return _run(cfg, Path(cfg.MODEL.WEIGHTS), "evaluation.json")


def predict(
    source: StrPath,
    images: Sequence[StrPath],
    output: StrPath,
    *,
    overrides: Overrides = (),
    threshold: float = 0.5,
    draw: bool = True,
    allow_imports: bool = False,
    progress: Progress | None = None,
) -> Predictions:
    """Apply the detector of a run folder or checkpoint to image files and folders.

    Args:
        source: the folder of a fine-tuning, or a checkpoint in one.
        images: files, and folders that are searched.
        output: folder of detections.json, images.json and pictures/.
        overrides: of the run's config, e.g. {"MODEL.DEVICE": "cpu"}.
        threshold: least score that is kept.
        draw: whether to write the images with the boxes drawn in.
        allow_imports: whether to import what the run's config names, which runs its code.
        progress: called with (images done, images in all).

    Raises:
        UserError: no detector, no image, or a config that names modules which are not allowed.
    """
    from clop_det.detection.predict import Detector
    from clop_det.detection.predict import predict as apply

    detector = Detector(source, _words(overrides), allow_imports=allow_imports)
    return apply(detector, images, output, threshold=threshold, draw=draw, progress=progress)


def rank(data: StrPath, checkpoints: Sequence[StrPath], output: StrPath, *, early: int = 0, **asked: Any) -> Ranking:
    """Rank checkpoints for a detection data set before any fine-tuning.

    Args:
        data, checkpoints, output: as `clop_det.ranking.ranking.rank` has them.
        early: how many of the first are fine-tuned for a tenth of the schedule; see `clop_det.ranking.early`.
        asked: its other arguments: boxes, side, seed, budget, rule, overrides, say.
    """
    from clop_det.ranking.ranking import rank as rank_checkpoints

    def fine_tune(cfg: CfgNode, resume: bool) -> Mapping[str, float]:
        return finetune(cfg, launch=Launch(resume=resume)).figures

    found = rank_checkpoints(str(data), [Path(path) for path in checkpoints], Path(output), **asked)
    if early:
        from clop_det.ranking.early import early_ap

        words, say = list(asked.get("overrides", ())), asked.get("say", lambda line: None)
        aps, failed = early_ap(found, early, str(data), words, Path(output), fine_tune, say)
        found = dataclasses.replace(found, early=aps, early_failed=failed)
    return found


def compare(config: StrPath, overrides: Overrides = (), **asked: Any) -> Compared:
    """Run what is left of a comparison and write its report.

    `asked` are the fields of `clop_det.comparison.experiment.Asked`: jobs, dry_run, only, keep, rerun, ...
    """
    from clop_det.comparison.experiment import Asked
    from clop_det.comparison.experiment import compare as run_comparison

    return run_comparison(str(config), _words(overrides), Asked(**asked))


def verify(bundle: StrPath, runs: StrPath | None = None) -> Verified:
    """Check the report.zip of a comparison: no byte has changed, and its detections give every AP.

    `runs`: folder of the comparison, from which what the archive had no room for is read.

    Raises:
        UserError: the file cannot be read, or is no such archive.
    """
    from clop_det.comparison.report.verification import verify_bundle

    return verify_bundle(Path(bundle), None if runs is None else Path(runs))


def read(config: Config, overrides: Overrides = ()) -> CfgNode:
    """The frozen config of a run.

    Raises:
        UserError: as `clop_det.config.reading.read_config`.
    """
    if not isinstance(config, CfgNode):
        return read_config(str(config), _words(overrides))
    cfg = config.clone()
    cfg.defrost()
    for key, text in read_pairs(_words(overrides)):
        merge_mapping(cfg, {key: value_from(text, value_of(cfg, key, None))}, COMMAND_LINE)
    cfg.freeze()
    return cfg


def _seeded(config: Config, overrides: Overrides, how: Launch) -> CfgNode:
    cfg = read(config, overrides)
    settle_seed(cfg, how.resume or how.eval_only, alone=not under_torchrun() and how.num_machines == 1)
    return cfg


def _words(overrides: Overrides) -> list[str]:
    """Overrides as the words of a command line, whose values are YAML (of which JSON is a part)."""
    if not isinstance(overrides, Mapping):
        return list(overrides)
    return [word for key, value in overrides.items() for word in (key, _text(key, value))]


def _text(key: str, value: Any) -> str:
    try:
        return str(value) if isinstance(value, Path) else json.dumps(value)
    except TypeError:
        raise UserError(f"the value of {key} is {value!r}; give a number, a text, a list or a mapping.") from None


def _checked(config: Config, overrides: Overrides, how: Launch) -> tuple[CfgNode, Launch]:
    from clop_det.detection.run import prepare

    cfg = _seeded(config, overrides, how)
    return cfg, dataclasses.replace(how, notes=tuple(prepare(cfg, how)))


def _run(cfg: CfgNode, weights: Path, file: str = RESULTS_NAME) -> Run:
    folder = Path(cfg.OUTPUT_DIR)
    return Run(folder, weights, folder / file)
