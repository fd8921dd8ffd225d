"""What reads a file of somebody's: sound files to begin with, and the call that must end in a documented way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.fuzz.targets import detection, images, runs, weights
from tests.fuzz.targets.target import Target

__all__ = ["PREPARE", "Target"]

PREPARE: dict[str, Callable[[Path], Target]] = {
    "voc": detection.prepare_voc,
    "coco": detection.prepare_coco,
    "split": images.prepare_split,
    "table": images.prepare_table,
    "pth": weights.prepare_pth,
    "pkl": weights.prepare_pkl,
    "safetensors": weights.prepare_safetensors,
    "distributed": weights.prepare_distributed,
    "store": images.prepare_store,
    "journal": images.prepare_journal,
    "metrics": runs.prepare_metrics,
    "config": runs.prepare_config,
    "runs": runs.prepare_runs,
}
