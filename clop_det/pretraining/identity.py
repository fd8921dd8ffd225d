"""What a pretraining computes, for a job's identity: what it reads, and the modules that it begins with."""

from __future__ import annotations

from detectron2.config import CfgNode

from clop_det.data.content import images_digest
from clop_det.digests import Digests

MODULES = ("clop_det.pretraining.run",)


def reads(cfg: CfgNode, digests: Digests) -> dict[str, str]:
    """Digests of what a pretraining reads, by what it is called."""
    settings = cfg.CLASSIFICATION
    found = {
        f"classification images of {split}": images_digest(settings, split, digests)
        for split in (settings.TRAIN_SPLIT, settings.EVAL_SPLIT)
    }
    if cfg.LABELS.SPLIT_FILE:
        found["LABELS.SPLIT_FILE"] = digests.of_given("LABELS.SPLIT_FILE", cfg.LABELS.SPLIT_FILE)
    if cfg.PRETRAIN.FROM:
        found["PRETRAIN.FROM"] = digests.of_given("PRETRAIN.FROM", cfg.PRETRAIN.FROM)
    return found
