"""The best checkpoint of a run by one of its figures."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from detectron2.engine import HookBase

from clop_det.figures import CATALOGUE, LOWER

_log = logging.getLogger(__name__)


class BestCheckpoint(HookBase):
    """Saves `model_best` whenever the watched figure is better than ever; remembers the best across a resume.

    The catalogue says which way is better; where it does not, higher is. Must stand after the evaluation and before the
    periodic checkpointer, whose files hold its state.

    Args:
        save: writes a checkpoint.
        fresh: gives the figures of the weights as they are; empty after a step that is not evaluated.
        figure: name of the watched figure, one of those.
    """

    def __init__(self, save: Callable[..., None], fresh: Callable[[], dict[str, float]], figure: str) -> None:
        self._save, self._fresh, self.figure = save, fresh, figure
        self._sign = -1 if CATALOGUE.find(figure).better == LOWER else 1
        self.best: float | None = None
        self.iteration = -1

    def after_step(self) -> None:
        figures = self._fresh()
        value = figures.get(self.figure)
        if figures and value is None:
            done = self.trainer.iter + 1
            _log.warning("no best checkpoint after %d iterations: %s is not defined there", done, self.figure)
        if value is None or (self.best is not None and self._sign * value <= self._sign * self.best):
            return
        self.best, self.iteration = value, self.trainer.iter
        self._save("model_best", iteration=self.trainer.iter)
        _log.info("best %s so far: %.3f after %d iterations", self.figure, value, self.iteration + 1)

    def state_dict(self) -> dict[str, Any]:
        """The best figure and when it was reached."""
        return {"best": self.best, "iteration": self.iteration}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.best, self.iteration = state["best"], state["iteration"]
