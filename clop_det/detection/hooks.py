"""The evaluation hook of the detection trainer: when it is due, and a stop within it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn

from clop_det.engine.leaving import StopRequested
from clop_det.engine.stop import StopSignal, left_together


class EvaluationHook(HookBase):
    """Evaluates every `period` iterations and after the last one; the probes alone before the first.

    The figures go into the event storage (and so into metrics.json and TensorBoard) under the iteration just done, as
    with Detectron2's EvalHook.

    A stop within the evaluation saves the step as one that is not yet evaluated. A run resumed from there begins with
    this step: `take_up` puts its scalars back in place of computing it, and its hooks follow. So this hook must stand
    before all that change or write something (the schedule, the metrics, the checkpoints).

    Args:
        period: iterations between evaluations; 0 = at the end only.
        model: what a stop brings back to the state after the step (preparing changes BatchNorm's statistics).
        prepare: called before each evaluation (precise BN).
        evaluate: gives flat figures (on the main process; anything elsewhere).
        evaluate_start: the same for the untrained detector.
        stop: saves on a stop.
    """

    def __init__(
        self,
        period: int,
        model: nn.Module,
        prepare: Callable[[], None],
        evaluate: Callable[[], dict[str, float]],
        evaluate_start: Callable[[], dict[str, float]],
        stop: StopSignal,
    ) -> None:
        self._period = period
        self._model = model
        self._prepare = prepare
        self._evaluate = evaluate
        self._evaluate_start = evaluate_start
        self._stop = stop
        self._unevaluated: dict[str, tuple[float, bool]] = {}  # scalars of a step, with their smoothing hints
        self.latest: dict[str, float] = {}

    @property
    def is_owed(self) -> bool:
        """Whether the checkpoint just loaded holds a step that is still to be evaluated."""
        return bool(self._unevaluated)

    def take_up(self) -> bool:
        """Put the scalars of the step that is still to be evaluated into the event storage; False if there is none."""
        owed = self.is_owed
        for name, (value, hint) in self._unevaluated.items():
            self.trainer.storage.put_scalar(name, value, smoothing_hint=hint)
        self._unevaluated = {}
        return owed

    def before_train(self) -> None:
        if self.trainer.start_iter == 0 and not self.is_owed:
            self._record(self._evaluate_start)

    def after_step(self) -> None:
        if not self._is_due():
            return
        buffers = [buffer.clone() for buffer in self._model.buffers()]
        try:
            self._prepare()
            self._record(self._evaluate)
        except StopRequested:
            for buffer, kept in zip(self._model.buffers(), buffers, strict=True):
                buffer.copy_(kept)
            storage, hints = self.trainer.storage, self.trainer.storage.smoothing_hints()
            fresh = {name: value for name, (value, when) in storage.latest().items() if when == self.trainer.iter}
            self._unevaluated = {name: (value, hints[name]) for name, value in fresh.items()}
            self._stop.save_and_leave()

    def fresh(self) -> dict[str, float]:
        """The latest figures after a step that is evaluated, on the main process; empty elsewhere and after others."""
        return self.latest if self._is_due() else {}

    def _is_due(self) -> bool:
        done = self.trainer.iter + 1
        return bool(done == self.trainer.max_iter or (self._period > 0 and done % self._period == 0))

    def state_dict(self) -> dict[str, Any]:
        """The scalars of a step that is still to be evaluated, if there is one."""
        return {"unevaluated": self._unevaluated} if self._unevaluated else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self._unevaluated = state["unevaluated"]

    def _record(self, evaluate: Callable[[], dict[str, float]]) -> None:
        start = time.perf_counter()
        # Processes may take different times; they start the next step together, or leave together.
        with left_together():
            figures = evaluate()
        if comm.is_main_process():
            self.latest = figures
            self.trainer.storage.put_scalars(smoothing_hint=False, **figures)
            self.trainer.storage.put_scalar("eval_seconds", time.perf_counter() - start, smoothing_hint=False)
