"""The probes of the current encoder during pretraining: kNN, linear, RankMe on features, collapse on embeddings."""

from __future__ import annotations

import logging
import time

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm

from clop_det.data.images import Subset
from clop_det.data.opening import probe_indices
from clop_det.engine.metrics import dispensable
from clop_det.errors import UserError
from clop_det.methods.single import PretrainModel
from clop_det.pretraining.data import PretrainData
from clop_det.pretraining.pictures import spectrum_picture
from clop_det.probes.encoding import encode_images, probe_features
from clop_det.probes.measures.embeddings import embedding_figures
from clop_det.probes.measures.spectrum import singular_values
from clop_det.probes.settings import check_probe_settings

_log = logging.getLogger(__name__)


def check_probes(cfg: CfgNode) -> None:
    """Refuse settings of the probes that cannot be honoured; UserError names the key."""
    probe = cfg.PROBE
    check_probe_settings(probe)
    if not (probe.ENABLED and probe.KEEP_BEST):
        return
    known = _figure_names(tuple(probe.KNN_K))
    if probe.KEEP_BEST not in known:
        raise UserError(f"PROBE.KEEP_BEST is {probe.KEEP_BEST!r}; the probes give {', '.join(known)}.")


def _figure_names(ks: tuple[int, ...]) -> list[str]:
    """What the probes give, learnt from a bank of made-up features: two classes in the plane."""
    rows = torch.randn(max(4, *ks), 2, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(len(rows)) % 2
    return [*probe_features(rows, labels, rows[:2], labels[:2], ks=ks), *embedding_figures(rows)]


class ProbeHook(HookBase):
    """Runs the probes before the first step, every `period` iterations and at the end; keeps the latest figures.

    With PROBE.ENABLED False it does none of that.
    """

    def __init__(self, model: PretrainModel, data: PretrainData, cfg: CfgNode) -> None:
        self._model, self._data, self._cfg = model, data, cfg
        self._period = cfg.TEST.EVAL_PERIOD
        self.latest: dict[str, float] = {}
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

    def _record(self, iteration: int) -> None:
        if not (self._cfg.PROBE.ENABLED and comm.is_main_process()):
            return
        start = time.perf_counter()
        self.latest = self.run()
        best = self._cfg.PROBE.KEEP_BEST
        if best and best not in self.latest:
            _log.warning("no best checkpoint after %d iterations: %s is not defined there", iteration, best)
        for name, value in self.named().items():
            self.trainer.storage.put_scalar(name, value, smoothing_hint=False)
        with dispensable("the picture of the spectrum"):
            self.trainer.storage.put_image("spectrum", spectrum_picture(self.spectrum(), iteration))
        self.trainer.storage.put_scalar("eval_seconds", time.perf_counter() - start, smoothing_hint=False)
        figures = ", ".join(f"{name} {value:.4g}" for name, value in self.latest.items())
        _log.info("probes after %d iterations: %s", iteration, figures)

    def run(self) -> dict[str, float]:
        """The figures of the encoder as it is now; leaves the model in the mode it was in."""
        train, val, probe = self._data.train, self._data.val, self._cfg.PROBE
        chosen = probe_indices(train.labels, probe.MAX_BANK, self._cfg.SEED)
        asked = probe_indices(val.labels, probe.MAX_QUERIES, self._cfg.SEED, "probe queries")
        was_training = self._model.training
        self._model.eval()
        try:
            bank = encode_images(self._model.features, Subset(train.images, chosen), probe.BATCH_SIZE)
            queries = encode_images(self._model.features, Subset(val.images, asked), probe.BATCH_SIZE)
            embeddings = self._model.project(bank)
            self._queries = queries
        finally:
            self._model.train(was_training)
        figures = probe_features(
            bank,
            train.labels[chosen],
            queries,
            val.labels[asked],
            ks=tuple(probe.KNN_K),
            temperature=probe.KNN_TEMPERATURE,
        )
        return {**figures, **embedding_figures(embeddings)}

    def spectrum(self) -> list[float]:
        """Singular values of the validation images' features at the latest probes, largest first."""
        values: list[float] = singular_values(self._queries).tolist()
        return values
