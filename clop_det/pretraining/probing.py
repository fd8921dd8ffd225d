"""The probes of the current encoder during pretraining."""

from __future__ import annotations

import logging
import time

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm

from clop_det.data.images import Subset
from clop_det.data.opening import probe_indices
from clop_det.engine.heartbeat import Heartbeat
from clop_det.engine.metrics import dispensable
from clop_det.engine.ranks import share_buffers
from clop_det.errors import UserError
from clop_det.methods import Method
from clop_det.pretraining.data import PretrainData
from clop_det.pretraining.pictures import spectrum_picture
from clop_det.probes.base import EMBEDDINGS, IMAGES, ProbeData
from clop_det.probes.encoding import encode_sets
from clop_det.probes.measures.spectrum import singular_values
from clop_det.probes.running import build_tasks, figure_names, run_tasks

_log = logging.getLogger(__name__)


def check_probes(cfg: CfgNode) -> None:
    """Refuse settings of the probes that cannot be honoured; UserError names the key."""
    tasks, best = build_tasks(cfg), cfg.PROBE.KEEP_BEST
    known = figure_names(tasks, (IMAGES, EMBEDDINGS))
    if tasks and best and best not in known:
        raise UserError(f"PROBE.KEEP_BEST is {best!r}; the probes give {', '.join(known)}.")


class ProbeHook(HookBase):
    """Runs the probes before the first step, every `period` iterations and at the end; keeps the latest figures.

    With PROBE.ENABLED False it does none of that.
    """

    def __init__(self, model: Method, data: PretrainData, cfg: CfgNode, heartbeat: Heartbeat) -> None:
        self._model, self._data, self._cfg, self._heartbeat = model, data, cfg, heartbeat
        self._period = cfg.TEST.EVAL_PERIOD
        self._tasks = build_tasks(cfg)
        self.latest: dict[str, float] = {}
        self._has_run = False
        self._queries = torch.empty(0)

    def named(self) -> dict[str, float]:
        """The latest figures under their names in the metrics."""
        return {f"probe/{name}": value for name, value in self.latest.items()}

    def is_due(self, done: int) -> bool:
        """Whether the probes run once `done` iterations are done."""
        return bool(done == self.trainer.max_iter or (self._period > 0 and done % self._period == 0))

    def before_train(self) -> None:
        if self.trainer.start_iter == 0:
            self._record(0)

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self.is_due(done):
            self._record(done)

    def figures(self) -> dict[str, float]:
        """The latest figures, on the main process, or those of now if there are none; all processes call it."""
        if not self._has_run:
            self.run()
        return self.latest

    def _record(self, iteration: int) -> None:
        if not self._cfg.PROBE.ENABLED:
            return
        start = time.perf_counter()
        self.run()
        if not comm.is_main_process():
            return
        for name, value in self.named().items():
            self.trainer.storage.put_scalar(name, value, smoothing_hint=False)
        with dispensable("the picture of the spectrum"):
            self.trainer.storage.put_image("spectrum", spectrum_picture(self.spectrum(), iteration))
        self.trainer.storage.put_scalar("eval_seconds", time.perf_counter() - start, smoothing_hint=False)
        figures = ", ".join(f"{name} {value:.4g}" for name, value in self.latest.items())
        _log.info("probes after %d iterations: %s", iteration, figures)

    def run(self) -> None:
        """Compute the figures of the encoder as it is now, all processes together; the main one has them then.

        Leaves the model in the mode it was in.
        """
        with self._heartbeat.doing("the probes"):
            data = self._encoded()
            source = {"": lambda: data}
            self.latest = run_tasks(self._tasks, {IMAGES: source, EMBEDDINGS: source})
        self._queries, self._has_run = data.queries, True

    def _encoded(self) -> ProbeData:
        train, val, probe = self._data.train, self._data.val, self._cfg.PROBE
        chosen = probe_indices(train.labels, probe.MAX_BANK, self._cfg.SEED)
        asked = probe_indices(val.labels, probe.MAX_QUERIES, self._cfg.SEED, "probe queries")
        bank = Subset(train.images, chosen), train.labels[chosen]
        queries = Subset(val.images, asked), val.labels[asked]
        was_training = self._model.training
        self._model.eval()
        share_buffers(self._model.encoder)
        try:
            return encode_sets(self._model.features, bank, queries, probe.BATCH_SIZE, self._model.project)
        finally:
            self._model.train(was_training)

    def spectrum(self) -> list[float]:
        """Singular values of the validation images' features at the latest probes, largest first."""
        values: list[float] = singular_values(self._queries).tolist()
        return values
