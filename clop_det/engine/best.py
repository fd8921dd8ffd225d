"""The best checkpoint of a run by one of its figures."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from detectron2.engine import HookBase

_log = logging.getLogger(__name__)


class BestCheckpoint(HookBase):
    """Saves `model_best` whenever the watched figure rises; remembers the best across a resume.

    Must stand after the evaluation and before the periodic checkpointer, whose files hold its state.
    """

    def __init__(self, save: Callable[..., None], latest: Callable[[], dict[str, float]], figure: str) -> None:
        self._save, self._latest, self.figure = save, latest, figure
        self.best: float | None = None
        self.iteration = -1
        self._warned = False

    def after_step(self) -> None:
        latest = self._latest()
        value = latest.get(self.figure)
        if value is None and not self._warned and any(name.endswith("/AP") for name in latest):
            self._warned = True
            _log.warning("no best checkpoint: there is no figure %s among %s", self.figure, ", ".join(latest))
        fresh = self.trainer.storage.latest().get(self.figure, (None, -1))[1] == self.trainer.iter
        if not fresh or value is None or (self.best is not None and value <= self.best):
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
