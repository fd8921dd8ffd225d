"""Weights & Biases as one more writer; nothing of it is imported unless a run asks for it."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.events import EventWriter, get_event_storage

from clop_det.config.files import flatten
from clop_det.errors import UserError


def check_wandb(cfg: CfgNode) -> None:
    """Refuse WANDB.ENABLED where the package is missing (UserError)."""
    if cfg.WANDB.ENABLED and importlib.util.find_spec("wandb") is None:
        raise UserError(
            'WANDB.ENABLED is True, but wandb is not installed. pip install "clop_det[wandb]", or set False.'
        )


def services(cfg: CfgNode) -> list[Callable[[str], EventWriter]]:
    """Makers of the writers that a run asks for beside metrics.json and TensorBoard, each from the run folder."""
    return [lambda folder: WandbWriter(cfg, folder)] if cfg.WANDB.ENABLED else []


class WandbWriter(EventWriter):
    """Sends every scalar, and the config, to a W&B run; its files lie in the run folder.

    The W&B run's id is a function of the run folder, so that a resumed run goes on in the same W&B run. The environment
    variables of W&B apply: WANDB_MODE=offline writes to the disk alone.

    Args:
        cfg: the frozen config.
        folder: of the run.
    """

    def __init__(self, cfg: CfgNode, folder: str) -> None:
        wandb = importlib.import_module("wandb")
        path = Path(folder).absolute()
        self._run: Any = wandb.init(
            project=cfg.WANDB.PROJECT,
            name=path.name,
            id=hashlib.sha256(str(path).encode()).hexdigest()[:16],
            resume="allow",
            dir=str(path),
            config=dict(flatten(cfg)),
        )
        self._last_write = -1

    def write(self) -> None:
        lines: dict[int, dict[str, float]] = {}
        for key, (value, iteration) in get_event_storage().latest().items():
            if iteration > self._last_write:
                lines.setdefault(iteration, {})[key] = value
        for iteration in sorted(lines):
            self._run.log(lines[iteration], step=iteration)
        self._last_write = max([self._last_write, *lines])

    def close(self) -> None:
        self._run.finish()
