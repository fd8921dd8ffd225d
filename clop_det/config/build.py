"""From declared keys to a `CfgNode`.

Both stages use one config: Detectron2's own keys keep their meaning in pretraining (SEED, OUTPUT_DIR, SOLVER.BASE_LR,
SOLVER.IMS_PER_BATCH, SOLVER.MAX_ITER, SOLVER.WARMUP_ITERS, TEST.EVAL_PERIOD, MODEL.PIXEL_MEAN, ...).
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode

from clop_det.config.imported import modules_of_others
from clop_det.config.imports import import_again, import_announced
from clop_det.keys import BOTH, declared

# Modules that declare keys and register what the package ships, imported by name as a user's modules are.
BUILT_IN = (
    "clop_det.config.imports",
    "clop_det.engine.config",
    "clop_det.data.config",
    "clop_det.backbones",
    "clop_det.methods",
    "clop_det.losses",
    "clop_det.data.layouts",
    "clop_det.probes.config",
    "clop_det.probes.tasks",
    "clop_det.pretraining.config",
    "clop_det.annotations.config",
    "clop_det.detection.config",
    "clop_det.detection.average_precision",
    "clop_det.detection.roi_heads",
)


def add_clop_config(cfg: CfgNode, imports: Sequence[str] = ()) -> None:
    """Add clop_det's keys and defaults to a fresh `get_cfg()`, in place; Detectron2 then knows its ROI heads, too.

    Args:
        cfg: the config.
        imports: the entries of IMPORTS, imported before, whose keys belong to this config; those that the process
            imported for other configs do not.
    """
    register_built_in()
    import_announced()
    # Detectron2 says "cuda" and fails without one; the device is resolved here so that config.yaml says what ran.
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    add_keys(cfg, BOTH, imports)


def register_again(cfg: Mapping[str, Any]) -> None:
    """All that `cfg` may name, registered in a process that was handed the config and did not read it.

    Raises:
        UserError: see `config.imports`.
    """
    register_built_in()
    import_announced()
    import_again(cfg)


def register_built_in() -> None:
    """Import what this package declares and registers for its runs."""
    for name in BUILT_IN:
        importlib.import_module(name)


def add_keys(cfg: CfgNode, stages: Sequence[str], imports: Sequence[str] = ()) -> None:
    """Add the declared keys of some stages with their defaults; `imports` as in `add_clop_config`."""
    others = modules_of_others(imports)
    for name, item in declared(*stages).items():
        if item.module not in others:
            add_key(cfg, name, item.key.default)


def add_key(cfg: CfgNode, name: str, default: Any) -> None:
    """Add a key by its dotted name, with the groups above it."""
    *groups, last = name.split(".")
    for group in groups:
        cfg = cfg.setdefault(group, CfgNode())
    cfg[last] = copy.deepcopy(default)
