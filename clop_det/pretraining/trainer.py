"""The pretraining loop: Detectron2's TrainerBase and hooks around one step of the loss."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import TrainerBase, hooks
from detectron2.solver import build_lr_scheduler
from detectron2.utils import comm

from clop_det.checkpoints.saving import SafeCheckpointer
from clop_det.engine.metrics import AlignedWriter
from clop_det.engine.seeding import derive_seed
from clop_det.engine.stop import StopSignal
from clop_det.pretraining.accumulation import backward_in_pieces
from clop_det.pretraining.build import build_model, wrap_for_ranks
from clop_det.pretraining.data import BatchSource, PretrainData
from clop_det.pretraining.optimizers import build_optimizer
from clop_det.pretraining.probing import ProbeHook

LOG_PERIOD = 20


class PretrainTrainer(TrainerBase):
    """Pretrains an encoder; state is (model, optimiser, schedule, iteration), everything else derives from the config.

    Args:
        cfg: the frozen config.
        data: the run's images and label split.
        provenance: stored in every checkpoint.
    """

    def __init__(self, cfg: CfgNode, data: PretrainData, provenance: dict[str, Any]) -> None:
        super().__init__()
        self.cfg, self.data = cfg, data
        device = torch.device(cfg.MODEL.DEVICE)
        world_size = comm.get_world_size()
        # Initial weights: the same for every loss and on every rank.
        torch.manual_seed(derive_seed(cfg.SEED, "weights"))
        self.core = build_model(cfg, len(data.train.classes), device)
        self.model = wrap_for_ranks(cfg, self.core)
        self.model.train()
        self.optimizer = build_optimizer(cfg, self.core)
        self.scheduler = build_lr_scheduler(cfg, self.optimizer)
        self.batches = BatchSource(cfg, data, comm.get_rank(), world_size, device)
        self.checkpointer = SafeCheckpointer(
            self.core, cfg.OUTPUT_DIR, keep=cfg.SOLVER.KEEP_CHECKPOINTS, provenance=provenance, trainer=self
        )
        self.probes = ProbeHook(self.core, data, cfg)
        periods = [cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD]
        self.writer = AlignedWriter(cfg.OUTPUT_DIR, LOG_PERIOD, periods)
        # Before `resume`: the checkpoint restores the hooks' state (the schedule's).
        self.register_hooks(self._build_hooks())

    def resume(self) -> int:
        """Load the newest checkpoint that verifies, if there is one; returns the iteration to start with."""
        self.checkpointer.resume_or_load("", resume=True)
        return self.iter + 1 if self.checkpointer.has_checkpoint() else 0

    def match_prototypes(self) -> None:
        """Assign prototypes to classes by the class means of the labelled images, if the loss waits for it.

        Done once, before the first step (a checkpoint holds the assignment), with the initial encoder, on every rank.
        """
        loss = self.core.loss
        if not loss.needs_matching:
            return
        data, size = self.data, self.cfg.PROBE.BATCH_SIZE
        self.core.eval()
        parts = torch.split(data.labelled, size)
        embeddings = torch.cat([self.core.embed_images(data.train.images[part]) for part in parts])
        self.core.train()
        labels = data.visible.told.to(embeddings.device)
        classes = range(len(data.train.classes))
        loss.match_prototypes(torch.stack([embeddings[labels == k].mean(0) for k in classes]))

    def run_step(self) -> None:
        start = time.perf_counter()
        views, labels = self.batches(self.iter)
        data_time = time.perf_counter() - start
        self.optimizer.zero_grad(set_to_none=True)
        parts = self._backward(views, labels)
        self.optimizer.step()
        self._log({f"loss_{name}": part for name, part in parts.items()}, _total(parts), data_time)

    def _backward(self, views: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Gradients of the global batch's loss into the parameters; the loss's parts."""
        if self.cfg.SOLVER.ACCUMULATE > 1:
            return backward_in_pieces(self.core, views, labels, self.cfg.SOLVER.ACCUMULATE)
        parts: dict[str, torch.Tensor] = self.model(views, labels)
        _total(parts).backward()  # type: ignore[no-untyped-call]
        return parts

    def state_dict(self) -> dict[str, Any]:
        """Iteration, hooks (the schedule) and the optimiser."""
        state: dict[str, Any] = super().state_dict()
        return {**state, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])

    def _log(self, parts: dict[str, torch.Tensor], total: torch.Tensor, data_time: float) -> None:
        # Reading a scalar waits for the device, so look only where a line is written.
        if not self.writer.is_due(self.iter, self.max_iter):
            return
        values = {name: value.detach().item() for name, value in {**parts, "total_loss": total}.items()}
        gradients = [p.grad for p in self.core.parameters() if p.grad is not None]
        values["gradient_norm"] = torch.nn.utils.get_total_norm(gradients).item()
        if not all(math.isfinite(value) for value in values.values()):
            raise FloatingPointError(f"loss or gradient is not finite at iteration {self.iter}: {values}")
        self.storage.put_scalars(smoothing_hint=False, **values)
        self.storage.put_scalar("data_time", data_time)

    def _build_hooks(self) -> list[Any]:
        cfg = self.cfg
        entries = [hooks.IterationTimer(), hooks.LRScheduler(self.optimizer, self.scheduler), self.probes]
        if comm.is_main_process():
            # Written before it is saved: a checkpoint never knows more than the metrics file.
            entries.append(self.writer)
        period = cfg.SOLVER.CHECKPOINT_PERIOD
        entries.append(hooks.PeriodicCheckpointer(self.checkpointer, period, cfg.SOLVER.MAX_ITER))
        entries.append(StopSignal(self._save_now))
        return entries

    def _save_now(self) -> None:
        self.checkpointer.save(f"model_{self.iter:07d}", iteration=self.iter)


def _total(parts: dict[str, torch.Tensor]) -> torch.Tensor:
    return sum(parts.values(), torch.zeros((), device=next(iter(parts.values())).device))


def final_checkpoint(cfg: CfgNode) -> Path:
    """Where a finished run's weights are."""
    return Path(cfg.OUTPUT_DIR) / "model_final.pth"
