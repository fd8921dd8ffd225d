"""Hooks of the detection trainer: evaluation, and the stop signal within it."""

from __future__ import annotations

import time
from collections.abc import Callable

from detectron2.engine import HookBase
from detectron2.utils import comm

from clop_det.engine.stop import StopRequested


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


def raise_if(requested: Callable[[], bool]) -> Callable[[], None]:
    """A check for the loops of an evaluation: raises StopRequested once a stop signal has arrived."""

    def check() -> None:
        if requested():
            raise StopRequested

    return check
