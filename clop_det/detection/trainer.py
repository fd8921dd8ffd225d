"""The detection trainer: Detectron2's SimpleTrainer and hooks; batch i derives from (seed, i, rank)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer, create_ddp_model, hooks
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from fvcore.nn.precise_bn import update_bn_stats

from clop_det.conversion.loading import DetectorCheckpointer
from clop_det.detection.divergence import diverged
from clop_det.detection.evaluation import Evaluation, TestSet, flatten
from clop_det.detection.hooks import EvaluationHook
from clop_det.detection.loader import Record, train_loader, training_records
from clop_det.detection.model import build_detector
from clop_det.detection.optimizer import build_optimizer
from clop_det.detection.pictures import draw_curves, draw_detections
from clop_det.detection.probing import Probes
from clop_det.detection.report import figures_table
from clop_det.detection.start import keep_start
from clop_det.detection.stored import Tested, file_names, write_tested
from clop_det.detection.voc_metric import area
from clop_det.engine.best import BestCheckpoint
from clop_det.engine.heartbeat import Heartbeat
from clop_det.engine.metrics import AlignedWriter
from clop_det.engine.precision import autocast, use_bf16
from clop_det.engine.ranks import share_buffers
from clop_det.engine.schedule import build_schedule
from clop_det.engine.seeding import derive_seed
from clop_det.engine.stop import StopSignal
from clop_det.engine.wandb_writer import services

LOG_PERIOD = 20


class DetectionTrainer(SimpleTrainer):
    """Fine-tunes a detector; state is (model, optimiser, schedule, iteration), everything else derives from the config.

    Args:
        cfg: the frozen config, data sets registered.
        provenance: stored in every checkpoint.
        train: without it the trainer only loads and evaluates.
    """

    def __init__(self, cfg: CfgNode, provenance: dict[str, Any], *, train: bool = True) -> None:
        self.cfg = cfg
        self.device = torch.device(cfg.MODEL.DEVICE)
        self.core = build_detector(cfg)
        # Detectron2 passes the rank's GPU, which a model on the CPU must not have.
        devices = [comm.get_local_rank()] if self.device.type == "cuda" else None
        model = create_ddp_model(self.core, broadcast_buffers=False, device_ids=devices) if train else self.core
        super().__init__(model, None, build_optimizer(cfg, self.core, model))
        self.bf16 = not cfg.SOLVER.AMP.ENABLED and use_bf16(cfg.SOLVER.PRECISION, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=cfg.SOLVER.AMP.ENABLED)
        self.scheduler = build_schedule(cfg, self.optimizer)
        self.checkpointer = DetectorCheckpointer(
            self.core, cfg.OUTPUT_DIR, keep=cfg.SOLVER.KEEP_CHECKPOINTS, provenance=provenance, trainer=self
        )
        self.test_sets = [TestSet(cfg, name) for name in cfg.DATASETS.TEST]
        if train:
            self._records = training_records(cfg)
        tests = {self._prefix(test_set.name): test_set.records for test_set in self.test_sets}
        self.probes = Probes(cfg, self._records if train else None, tests)
        self.evaluations: dict[str, Evaluation] = {}
        self._heartbeat = Heartbeat(cfg.PROCESSES.MAX_STALL)
        self._stop = StopSignal(self._save_now)
        self.evaluation = EvaluationHook(
            cfg.TEST.EVAL_PERIOD, self.core, self.make_bn_precise, self.evaluate, self.run_probes, self._stop
        )
        if train:
            self.register_hooks(self._build_hooks())

    def resume_or_load(self, resume: bool) -> int:
        """Load the newest checkpoint of the run, or MODEL.WEIGHTS; returns the iteration to start with."""
        resume = resume and bool(self.checkpointer.get_checkpoint_file())
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if not resume:
            keep_start(self.core, self.checkpointer.absent, self.cfg.OUTPUT_DIR)
        owed = self.evaluation.is_owed  # then the iteration is begun again, for its evaluation
        return int(self.iter) + (not owed) if resume else 0

    def train(self, start_iter: int, max_iter: int) -> None:
        """Train from `start_iter` (what `resume_or_load` returned) to `max_iter`."""
        self.data_loader = self._loader("train", start_iter + self.evaluation.is_owed)
        with self._stop.caught():
            super().train(start_iter, max_iter)

    def run_step(self) -> None:
        """One step, unless only its evaluation is left to do.

        Raises:
            UserError: a loss or a proposal is not finite.
        """
        if self.evaluation.take_up():
            return
        losses: dict[str, Any] = {}
        try:
            self._step(losses)
        except FloatingPointError as error:
            before = {name: value for name, (value, _) in self.storage.latest().items() if name.startswith("loss_")}
            raise diverged(self.cfg, self.iter, error, losses or before) from error

    def _step(self, losses: dict[str, Any]) -> None:
        """One step, which fills `losses`; the sampling of anchors and regions is seeded by (seed, iteration, rank)."""
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        self._heartbeat.mark()
        self._seed_sampling("sampling", self.iter)
        with autocast(torch.float16 if self.scaler.is_enabled() else self.bf16, self.device):
            losses |= self.model(data)
        total = sum(losses.values())
        self.optimizer.zero_grad()
        self.scaler.scale(total).backward()  # passes it on as it is unless SOLVER.AMP is on
        self.after_backward()
        self.write_metrics(losses, data_time, self.iter)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def make_bn_precise(self) -> None:
        """TEST.PRECISE_BN: BatchNorm's statistics averaged over batches that are a function of the iteration.

        Detectron2's hook takes other batches each time it runs; a resumed run must see the same.
        """
        settings = self.cfg.TEST.PRECISE_BN
        if settings.ENABLED:
            with EventStorage():  # for what the model counts
                update_bn_stats(self.core, self._bn_batches(), settings.NUM_ITER)

    def evaluate(self, state: str = "") -> dict[str, float]:
        """AP of every family on every test set, and the probes, as flat figures (main process); prints the table.

        Args:
            state: which weights these are, for the table's title; those of the step under way if empty.
        """
        figures: dict[str, float] = {}
        share_buffers(self.core)
        for test_set in self.test_sets:
            evaluation = test_set.evaluate(self.core, self.bf16, self._stop.check)
            if evaluation is not None:
                self.evaluations[test_set.name] = evaluation
                figures |= flatten(evaluation.families, self._prefix(test_set.name))
        figures |= self.run_probes()
        if comm.is_main_process():
            title = f"{', '.join(self.cfg.DATASETS.TEST)} {state or f'after {self.iter + 1} iterations'}"
            headlines = {self._prefix(test_set.name)[:-1]: test_set.main_family for test_set in self.test_sets}
            print(figures_table(figures, headlines, title, self.cfg.TEST.COCO_MAX_DETECTIONS), flush=True)
        return figures

    def run_probes(self) -> dict[str, float]:
        """The probes of the residual network as it is now; all processes call it.

        Returns:
            "probe/..." on the classification set, "probe/object_..." on the annotated boxes; on the main process.
        """
        with self._heartbeat.doing("the probes"):
            return self.probes.run(self.core, self.bf16, self._stop.check)

    def _prefix(self, test_set: str) -> str:
        # With one test set the names are Detectron2's: bbox/AP.
        return f"{test_set}/" if len(self.test_sets) > 1 else ""

    def draw(self) -> None:
        """Pictures of the last evaluation into the run folder: detections.png and precision_recall.png."""
        for test_set in self.test_sets:
            evaluation, truth = self.evaluations[test_set.name], test_set.truth
            path = self._picture("detections", test_set.name)
            draw_detections(path, test_set.records, truth, evaluation.detections, self.cfg.TEST.PICTURES)
            tested = set(truth.category[~(truth.ignore | truth.crowd)].tolist())
            average = {k: area(curve) * 100 for k, curve in enumerate(evaluation.curves) if k in tested}
            draw_curves(self._picture("precision_recall", test_set.name), evaluation.curves, truth.classes, average)

    def keep(self) -> None:
        """Keep the last evaluation's detections, and what they are judged by, in the run folder; see `stored`."""
        for test_set in self.test_sets:
            name, most = test_set.name, self.cfg.TEST.COCO_MAX_DETECTIONS
            files = [Path(record["file_name"]).name for record in test_set.records]
            found = self.evaluations[name].detections
            tested = Tested(name, self._prefix(name), test_set.main_family, most, files, test_set.truth, found)
            write_tested(Path(self.cfg.OUTPUT_DIR), tested)

    def has_kept(self) -> bool:
        """Whether the last of the files that `keep` writes is there."""
        name = self.test_sets[-1].name
        return (Path(self.cfg.OUTPUT_DIR) / file_names(name if self._prefix(name) else "")[1]).is_file()

    def has_drawn(self) -> bool:
        """Whether the last of the pictures that `draw` makes is there."""
        return self._picture("precision_recall", self.test_sets[-1].name).is_file()

    def _picture(self, what: str, test_set: str) -> Path:
        suffix = f"_{test_set}" if len(self.test_sets) > 1 else ""
        return Path(self.cfg.OUTPUT_DIR) / f"{what}{suffix}.png"

    def state_dict(self) -> dict[str, Any]:
        """Iteration, hooks (the schedule, the best figure), the optimiser and the scale of fp16's gradients."""
        state: dict[str, Any] = super().state_dict()
        return {**state, "optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state_dict["scaler"])

    def _build_hooks(self) -> list[Any]:
        cfg = self.cfg
        entries = [self._heartbeat, hooks.IterationTimer(), self.evaluation]
        entries.append(hooks.LRScheduler(self.optimizer, self.scheduler))
        if comm.is_main_process():
            # Written before it is saved: a checkpoint never knows more than the metrics file.
            periods = [cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD]
            entries.append(AlignedWriter(cfg.OUTPUT_DIR, LOG_PERIOD, periods, others=services(cfg)))
        if cfg.TEST.KEEP_BEST:
            entries.append(BestCheckpoint(self.checkpointer.save, self.evaluation.fresh, cfg.TEST.KEEP_BEST))
        entries.append(hooks.PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD, cfg.SOLVER.MAX_ITER))
        entries.append(self._stop)
        return entries

    def _loader(self, purpose: str, start: int) -> Any:
        return train_loader(self.cfg, self._records, start, comm.get_rank(), comm.get_world_size(), purpose=purpose)

    def _bn_batches(self) -> Iterator[list[Record]]:
        purpose = f"precise bn {self.iter}"
        self._seed_sampling(purpose, 0)
        for batch in self._loader(purpose, 0):
            self._stop.check_together()  # SyncBN's ranks meet in every batch
            yield batch

    def _seed_sampling(self, purpose: str, iteration: int) -> None:
        torch.manual_seed(derive_seed(self.cfg.SEED, purpose, iteration, comm.get_rank()))

    def _save_now(self) -> None:
        self.checkpointer.save(f"model_{self.iter:07d}", iteration=self.iter)
