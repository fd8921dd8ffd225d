"""One step of pretraining, to be read from top to bottom.

    i  ->  views, labels      `BatchSource`: a function of (seed, i); views of n images, labels with -1 where hidden
       ->  named parts        the method: views -> embeddings -> weighted parts of the objective over all ranks
       ->  gradients          backward through their sum, averaged over the ranks
       ->  fault?             `NonFiniteGuard`: a step that is not finite is left out, or ends the run (in fp16 it may
                              be the `LossScale` that is too high)
       ->  weights            the optimiser
       ->  after_step         the loss, which may count steps, and the method: a momentum teacher follows here

Then the hooks of the trainer run: the schedule sets the learning rate of step i + 1, probes and checkpoints are made
where they are due, and the figures of a line are written.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import Tensor, nn

from clop_det.data.views import Views
from clop_det.engine.seeding import derive_seed
from clop_det.losses.batch import NonFiniteError, values_checked_later
from clop_det.methods import EmbeddingMethod, Method
from clop_det.pretraining.accumulation import backward_in_pieces, total
from clop_det.pretraining.loss_scale import LossScale
from clop_det.pretraining.nonfinite import NonFiniteGuard, why_not_finite


@dataclass(frozen=True)
class Taken:
    """What there is to say of a step that was taken.

    Attributes:
        views: that the method saw.
        parts: weighted parts of the objective, scalars.
        gradient_norm: over all parameters, scalar.
        data_seconds: until the batch was there.
    """

    views: Views
    parts: dict[str, Tensor]
    gradient_norm: Tensor
    data_seconds: float


class PretrainStep:
    """Step i of a run.

    Args:
        cfg: the config.
        method: what is trained.
        wrapped: the same, as data parallelism wraps it.
        optimizer: of the method's trained modules.
        batches: from i to the views and labels of this rank.
        guard: decides about a step that is not finite.
    """

    def __init__(
        self,
        cfg: CfgNode,
        method: Method,
        wrapped: nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: Callable[[int], tuple[Views, Tensor]],
        guard: NonFiniteGuard,
    ) -> None:
        self.method, self.wrapped, self.optimizer = method, wrapped, optimizer
        self.batches, self.guard = batches, guard
        self.scale = LossScale(bool(cfg.SOLVER.AMP.ENABLED))
        self._seed, self._max_iter, self._pieces = cfg.SEED, cfg.SOLVER.MAX_ITER, cfg.SOLVER.ACCUMULATE

    def __call__(self, i: int) -> Taken | None:
        """Take step i; None if it was left out.

        Raises:
            UserError: the step is not finite, and no more steps may be left out.
        """
        start = time.perf_counter()
        views, labels = self.batches(i)
        data_seconds = time.perf_counter() - start
        self.guard.remember()
        self.optimizer.zero_grad(set_to_none=True)
        with values_checked_later() as checks:
            try:
                parts = self._backward(i, views, labels)
            except (NonFiniteError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
                self.guard.handle(i, str(checks.complaint() or error), self.optimizer)
                return None
        gradients = [p.grad for p in self.method.parameters() if p.grad is not None]
        self.scale.unscale(gradients)
        norm = torch.nn.utils.get_total_norm(gradients)
        fault = why_not_finite(parts, norm, checks)
        if fault is not None:
            if fault.gradient_alone and self.scale.lowered():
                self.guard.leave_out(i, self.scale.value)
                return None
            self.guard.handle(i, str(fault), self.optimizer)
            return None
        self.optimizer.step()
        self.scale.step_taken()
        if self.method.loss is not None:
            self.method.loss.after_step()
        self.method.after_step((i + 1) / self._max_iter)
        return Taken(views, parts, norm, data_seconds)

    def _backward(self, i: int, views: Views, labels: Tensor) -> dict[str, Tensor]:
        """Leave the gradients of the objective of the global batch in the parameters; its parts."""

        def seed(piece: int) -> None:
            """What a network draws in training, e.g. for drop path, is a function of (seed, i, rank) as well."""
            torch.manual_seed(derive_seed(self._seed, "step", i, comm.get_rank(), piece))

        seed(0)
        if self._pieces > 1:
            assert isinstance(self.method, EmbeddingMethod)  # checked where it is built
            return backward_in_pieces(self.method, views, labels, self._pieces, self.scale.scaled, seed)
        parts: dict[str, Tensor] = self.wrapped(views, labels)
        torch.autograd.backward(self.scale.scaled(total(parts)))
        return parts
