"""Early AP: a tenth of the fine-tuning's schedule, judged on training images that it does not see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from clop_det.annotations.datasets import class_names
from clop_det.conversion.convert import convert_checkpoint
from clop_det.digests import digest
from clop_det.engine.run_folder import RESULTS_NAME, has_begun
from clop_det.engine.seeding import generator
from clop_det.errors import UserError
from clop_det.files import read_json, sha256_of
from clop_det.ranking.data import ranking_config, ranking_records
from clop_det.ranking.ranking import Ranking, Say

FINE_TUNED, JUDGED = "ranking_fine_tuned", "ranking_judged"  # the two parts of the training images
_SHARE, _JUDGED_SHARE = 10, 5  # a tenth of the schedule, a fifth of the images
_LEAST = 10  # images in all
_SCALED = ("MAX_ITER", "WARMUP_ITERS")
FineTune = Callable[[CfgNode, bool], Mapping[str, float]]  # (config, whether it goes on) -> figures


def early_ap(
    ranking: Ranking, count: int, data: str, overrides: list[str], output: Path, fine_tune: FineTune, say: Say
) -> tuple[dict[str, float], dict[str, str]]:
    """AP in percent of the first `count` checkpoints after a tenth of the schedule, and why others of them have none.

    Four fifths of the training images are trained on, the rest is what AP is taken on; nothing of a test set is read.
    What was run in `output` is not run again.

    Args:
        data: a detection config.
        fine_tune: trains and evaluates a detector.

    Raises:
        UserError: `data` is no detection config, or has too few training images.
    """
    if Path(data).is_dir() or Path(data).suffix == ".json":
        raise UserError("early AP needs a detector and its schedule: give a detection config as the data.")
    cfg = ranking_config(data, overrides)
    _register_parts(cfg)
    found: dict[str, float] = {}
    failed: dict[str, str] = {}
    for standing in ranking.standings[:count]:
        name, weights = standing.name, output / "converted" / f"{standing.name}.pth"
        say(f"{name}: early AP")
        try:
            if not weights.is_file():
                convert_checkpoint(ranking.files[name], weights)
            found[name] = _one(early_config(cfg, weights), output / "early" / name, fine_tune)
        except UserError as error:
            failed[name] = str(error)
    return found, failed


def early_config(cfg: CfgNode, weights: Path) -> CfgNode:
    """The config of a fine-tuning whose schedule is a tenth as long, on the two parts of the training images."""
    own = cfg.clone()
    own.defrost()
    own.MODEL.WEIGHTS = str(weights.absolute())
    own.DATASETS.TRAIN, own.DATASETS.TEST, own.DATASETS.REGISTER = (FINE_TUNED,), (JUDGED,), []
    own.DATASETS.TRAIN_FRACTION, own.DATASETS.TRAIN_SPLIT_FILE = 1.0, ""
    own.DATASETS.OVERLAP_ALLOWED = (JUDGED,)
    for key in _SCALED:
        own.SOLVER[key] = -(-own.SOLVER[key] // _SHARE)
    own.SOLVER.STEPS = tuple(sorted({-(-step // _SHARE) for step in own.SOLVER.STEPS}))
    own.SOLVER.CHECKPOINT_PERIOD = own.SOLVER.MAX_ITER
    own.TEST.EVAL_PERIOD, own.TEST.PICTURES, own.TEST.KEEP_BEST, own.TEST.EXPECTED_RESULTS = 0, 0, "", []
    own.PROBE.ENABLED = False
    own.SEED = max(0, own.SEED)
    return own


def _one(cfg: CfgNode, folder: Path, fine_tune: FineTune) -> float:
    content: dict[str, Any] = {"config": cfg.dump(), "weights": sha256_of(Path(cfg.MODEL.WEIGHTS))}
    content["images"] = [record["file_name"] for record in DatasetCatalog.get(FINE_TUNED)]
    folder = folder.with_name(f"{folder.name}-{digest(content)[:8]}")
    cfg.OUTPUT_DIR = str(folder)
    cfg.freeze()
    if not (folder / RESULTS_NAME).is_file():
        fine_tune(cfg, has_begun(folder))
    return float(read_json(folder / RESULTS_NAME)["metrics"]["bbox/AP"])


def _register_parts(cfg: CfgNode) -> None:
    records = ranking_records(cfg)
    if len(records) < _LEAST:
        raise UserError(f"there are {len(records)} training images with boxes; early AP needs at least {_LEAST}.")
    order = torch.randperm(len(records), generator=generator(0, "early AP")).tolist()
    judged = len(records) // _JUDGED_SHARE
    classes = list(class_names(cfg.DATASETS.TRAIN[0]))
    for name, part in ((JUDGED, order[:judged]), (FINE_TUNED, order[judged:])):
        chosen = [records[index] for index in sorted(part)]
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        DatasetCatalog.register(name, lambda chosen=chosen: chosen)  # type: ignore[misc]
        MetadataCatalog.get(name).set(thing_classes=classes, evaluator_type="coco")
