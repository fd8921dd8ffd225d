"""What a fine-tuning computes, for a job's identity: what it reads, and the modules that it begins with."""

from __future__ import annotations

from detectron2.config import CfgNode

from clop_det.annotations.content import dataset_digest
from clop_det.data.content import images_digest
from clop_det.digests import Digests

MODULES = ("clop_det.detection.run", "clop_det.detection.roi_heads")


def reads(cfg: CfgNode, digests: Digests) -> dict[str, str]:
    """Digests of what a fine-tuning reads but for its weights, by what it is called."""
    settings = cfg.CLASSIFICATION
    found = {
        f"data set {name}": dataset_digest(name, cfg, digests)
        for name in dict.fromkeys((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST))
    }
    if cfg.PROBE.ENABLED and settings.ROOT:
        for split in (settings.TRAIN_SPLIT, settings.EVAL_SPLIT):
            found[f"classification images of {split}"] = images_digest(settings, split, digests)
    split_file = cfg.DATASETS.TRAIN_SPLIT_FILE
    if split_file:
        found["DATASETS.TRAIN_SPLIT_FILE"] = digests.of_given("DATASETS.TRAIN_SPLIT_FILE", split_file)
    return found
