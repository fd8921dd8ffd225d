"""One line that says how a pretraining goes."""

from __future__ import annotations

import datetime
import logging

from detectron2.utils.events import EventStorage, EventWriter, get_event_storage

from clop_det.figures import ACCURACY, CATALOGUE, PROBE, RANK

_log = logging.getLogger(__name__)


class ProgressLine(EventWriter):
    """Logs iteration, ETA, images per second, loss with its parts, learning rate, and the last probes.

    Of the probes it shows the first accuracy and the first rank that there are: by default kNN and RankMe.

    Args:
        max_iter: iterations of the run.
        batch: images of the global batch.
    """

    def __init__(self, max_iter: int, batch: int) -> None:
        self._max_iter, self._batch = max_iter, batch

    def write(self) -> None:
        storage = get_event_storage()
        if storage.iter >= self._max_iter:  # the line of the last step has been written
            return
        _log.info("%s", "  ".join(self._parts(storage)))

    def _parts(self, storage: EventStorage) -> list[str]:
        done = storage.iter + 1
        values = {key: value for key, (value, _) in storage.latest().items()}
        parts = [f"{done}/{self._max_iter}", *self._speed(storage, done)]
        if "total_loss" in values:
            terms = [f"{key[5:]} {values[key]:.4g}" for key in values if key.startswith("loss_")]
            parts.append(f"loss {values['total_loss']:.4g} ({' + '.join(terms)})")
        parts += [f"lr {values['lr']:.4g}"] if "lr" in values else []
        return [*parts, *_probes(values)]

    def _speed(self, storage: EventStorage, done: int) -> list[str]:
        if "time" not in storage.histories():  # the first steps are not timed
            return []
        seconds = storage.history("time").median(1000)
        left = seconds * (self._max_iter - done)
        storage.put_scalar("eta_seconds", left, smoothing_hint=False)
        storage.put_scalar("images_per_second", self._batch / seconds, smoothing_hint=False)
        return [f"eta {datetime.timedelta(seconds=int(left))}", f"{self._batch / seconds:.4g} images/s"]


def _probes(values: dict[str, float]) -> list[str]:
    parts = []
    for group in (ACCURACY, RANK):
        for name in [name for name in CATALOGUE.names(group) if f"{PROBE}/{name}" in values][:1]:
            figure = CATALOGUE.find(name)
            parts.append(f"{figure.label} {figure.text(values[f'{PROBE}/{name}'])}")
    return parts
