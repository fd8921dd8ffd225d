"""The pretraining loop: Detectron2's TrainerBase and hooks around one step (`step.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import TrainerBase, hooks
from detectron2.utils import comm

from clop_det.checkpoints.saving import SafeCheckpointer
from clop_det.data.views import Views
from clop_det.engine.best import BestCheckpoint
from clop_det.engine.heartbeat import Heartbeat
from clop_det.engine.metrics import AlignedWriter
from clop_det.engine.progress import ProgressLine
from clop_det.engine.schedule import build_schedule
from clop_det.engine.seeding import derive_seed
from clop_det.engine.stop import StopSignal
from clop_det.engine.wandb_writer import services
from clop_det.pretraining.accumulation import total
from clop_det.pretraining.build import build_method, method_facts, wrap_for_ranks
from clop_det.pretraining.collapse_watch import CollapseWatch, batch_figures
from clop_det.pretraining.data import BatchSource, PretrainData
from clop_det.pretraining.nonfinite import NonFiniteGuard
from clop_det.pretraining.optimizers import build_optimizer
from clop_det.pretraining.pictures import view_grid
from clop_det.pretraining.probing import ProbeHook
from clop_det.pretraining.step import PretrainStep, Taken

LOG_PERIOD = 20


class PretrainTrainer(TrainerBase):
    """Runs a method; state is (method, optimiser, schedule, iteration), everything else derives from the config.

    Args:
        cfg: the frozen config.
        data: the run's images and label split.
        provenance: stored in every checkpoint.
    """

    def __init__(self, cfg: CfgNode, data: PretrainData, provenance: dict[str, Any]) -> None:
        super().__init__()
        self.cfg, self.data = cfg, data
        device = torch.device(cfg.MODEL.DEVICE)
        # Initial weights: the same for every method and loss, and on every rank.
        torch.manual_seed(derive_seed(cfg.SEED, "weights"))
        self.core = build_method(cfg, len(data.train.classes), device)
        self.facts = method_facts(cfg, self.core)
        self.model = wrap_for_ranks(cfg, self.core)
        self.model.train()
        self.optimizer = build_optimizer(cfg, torch.nn.ModuleList(self.core.trained))
        self.scheduler = build_schedule(cfg, self.optimizer)
        self.guard = NonFiniteGuard(cfg, data, self.core)
        batches = BatchSource(cfg, data, self.core.views_needed, comm.get_rank(), comm.get_world_size(), device)
        self._heartbeat = Heartbeat(cfg.PROCESSES.MAX_STALL)

        def marked(i: int) -> tuple[Views, torch.Tensor]:
            batch = batches(i)
            self._heartbeat.mark()
            return batch

        self.step = PretrainStep(cfg, self.core, self.model, self.optimizer, marked, self.guard)
        self.checkpointer = SafeCheckpointer(
            self.core,
            cfg.OUTPUT_DIR,
            keep=cfg.SOLVER.KEEP_CHECKPOINTS,
            provenance={**provenance, **self.facts},
            trainer=self,
        )
        self.probes = ProbeHook(self.core, data, cfg, self._heartbeat)
        self.watch = CollapseWatch(cfg, data.train.images)
        self.writer = self._build_writer()
        self._stop = StopSignal(self._save_now)
        # Before `resume`: the checkpoint restores the hooks' state (the schedule's).
        self.register_hooks(self._build_hooks())

    def resume(self) -> int:
        """Load the newest checkpoint that verifies, if there is one; returns the iteration to start with."""
        self.checkpointer.resume_or_load("", resume=True)
        return self.iter + 1 if self.checkpointer.has_checkpoint() else 0

    def match_prototypes(self) -> None:
        """Assign prototypes to classes by the class means of the labelled images, if the loss waits for it.

        Done once, before the first step (a checkpoint holds the assignment), with the initial encoder. The ranks take
        the assignment of the first: means that rounding moves on one of them must not give it other prototypes.
        """
        loss = self.core.loss
        if loss is None or not loss.needs_matching:
            return
        data, size = self.data, self.cfg.PROBE.BATCH_SIZE
        self.core.eval()
        parts = torch.split(data.labelled, size)
        embeddings = torch.cat([self.core.embed_images(data.train.images[part]) for part in parts])
        self.core.train()
        labels = data.visible.told.to(embeddings.device)
        classes = range(len(data.train.classes))
        loss.match_prototypes(torch.stack([embeddings[labels == k].mean(0) for k in classes]))
        if comm.get_world_size() > 1:
            for tensor in loss.state_dict().values():
                torch.distributed.broadcast(tensor, 0)

    def train(self, start_iter: int, max_iter: int) -> None:
        """Train from `start_iter` (what `resume` returned) to `max_iter`."""
        with self._stop.caught():
            super().train(start_iter, max_iter)

    def run_step(self) -> None:
        taken = self.step(self.iter)
        # Reading a scalar waits for the device, so look only where a line is written.
        if taken is not None and self.writer.is_due(self.iter, self.max_iter):
            self._log(taken)

    def state_dict(self) -> dict[str, Any]:
        """Iteration, hooks (the schedule, the best figure, ...), the optimiser and how many steps were left out."""
        state: dict[str, Any] = super().state_dict()
        return {
            **state,
            "optimizer": self.optimizer.state_dict(),
            "skipped_steps": self.guard.skipped,
            "loss_scale": self.step.scale.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])
        self.guard.skipped = state_dict.get("skipped_steps", 0)
        self.step.scale.load_state_dict(state_dict.get("loss_scale", {}))

    def _log(self, taken: Taken) -> None:
        named = {f"loss_{name}": part for name, part in taken.parts.items()}
        named |= {"total_loss": total(taken.parts), "gradient_norm": taken.gradient_norm}
        figures = {name: value.detach().item() for name, value in named.items()}
        if self.core.latest_embeddings is not None:
            # On every rank: the batch is gathered, and all must see a collapse at the same step.
            figures |= batch_figures(self.core.latest_embeddings)
        self.storage.put_scalars(smoothing_hint=False, **figures)
        self.storage.put_scalar("data_time", taken.data_seconds)
        if comm.is_main_process() and (self.iter == self.start_iter or self.probes.is_due(self.iter + 1)):
            grid = view_grid(taken.views.pixels, self.core.pixel_mean, self.core.pixel_std)
            self.storage.put_image("views", grid)

    def _build_writer(self) -> AlignedWriter:
        cfg = self.cfg
        return AlignedWriter(
            cfg.OUTPUT_DIR,
            LOG_PERIOD,
            [cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD],
            printer=lambda max_iter: ProgressLine(max_iter, cfg.SOLVER.IMS_PER_BATCH),
            others=services(cfg),
        )

    def _build_hooks(self) -> list[Any]:
        cfg = self.cfg
        entries = [self._heartbeat, hooks.IterationTimer(), hooks.LRScheduler(self.optimizer, self.scheduler)]
        entries += [self.probes, self.watch]
        if comm.is_main_process():
            # Written before it is saved: a checkpoint never knows more than the metrics file.
            entries.append(self.writer)
        if cfg.PROBE.ENABLED and cfg.PROBE.KEEP_BEST:
            entries.append(BestCheckpoint(self.checkpointer.save, self._fresh_probes, f"probe/{cfg.PROBE.KEEP_BEST}"))
        period = cfg.SOLVER.CHECKPOINT_PERIOD
        entries.append(hooks.PeriodicCheckpointer(self.checkpointer, period, cfg.SOLVER.MAX_ITER))
        entries.append(hooks.CallbackHook(after_step=lambda _: self.watch.stop_if_collapsed(self._save_now)))
        entries.append(self._stop)  # the last: it saves what all the others have done
        return entries

    def _fresh_probes(self) -> dict[str, float]:
        """The figures of the weights as they are: those from before the first step are of others."""
        return self.probes.named() if self.probes.is_due(self.iter + 1) else {}

    def _save_now(self) -> None:
        self.checkpointer.save(f"model_{self.iter:07d}", iteration=self.iter)


def final_checkpoint(cfg: CfgNode) -> Path:
    """Where a finished run's weights are."""
    return Path(cfg.OUTPUT_DIR) / "model_final.pth"
