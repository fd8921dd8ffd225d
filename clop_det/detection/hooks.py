"""Hooks of the detection trainer: evaluation, and the best checkpoint."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm

from clop_det.engine.stop import StopRequested

_log = logging.getLogger(__name__)


class EvaluationHook(HookBase):
    """Evaluates every `period` iterations and after the last one; the probes alone before the first.

    The figures go into the event storage (and so into metrics.json and TensorBoard) under the iteration just done, as
    with Detectron2's EvalHook.

    Args:
        period: iterations between evaluations; 0 = at the end only.
        evaluate: gives flat figures (on the main process; anything elsewhere).
        evaluate_start: the same for the untrained detector.
    """

    def __init__(
        self, period: int, evaluate: Callable[[], dict[str, float]], evaluate_start: Callable[[], dict[str, float]]
    ) -> None:
        self._period = period
        self._evaluate = evaluate
        self._evaluate_start = evaluate_start
        self.latest: dict[str, float] = {}

    def before_train(self) -> None:
        if self.trainer.start_iter == 0:
            self._record(self._evaluate_start)

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter or (self._period > 0 and done % self._period == 0):
            self._record(self._evaluate)

    def _record(self, evaluate: Callable[[], dict[str, float]]) -> None:
        start = time.perf_counter()
        figures = evaluate()
        if comm.is_main_process():
            self.latest = figures
            self.trainer.storage.put_scalars(smoothing_hint=False, **figures)
            self.trainer.storage.put_scalar("eval_seconds", time.perf_counter() - start, smoothing_hint=False)
        # Processes may have taken different times; start the next step together.
        comm.synchronize()


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
            _log.warning("no best checkpoint: TEST.KEEP_BEST is %s, figures are %s", self.figure, ", ".join(latest))
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


def raise_if(requested: Callable[[], bool]) -> Callable[[], None]:
    """A check for the loops of an evaluation: raises StopRequested once a stop signal has arrived."""

    def check() -> None:
        if requested():
            raise StopRequested

    return check
