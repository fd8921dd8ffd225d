"""One line that says how a pretraining goes."""

from __future__ import annotations

import datetime
import logging

from detectron2.utils.events import EventStorage, EventWriter, get_event_storage

_log = logging.getLogger(__name__)
# Figures of the last probes in the line: name in the event storage -> name in the line.
_PROBES = {"probe/knn_top1": "kNN", "probe/rankme": "RankMe"}


class ProgressLine(EventWriter):
    """Logs iteration, ETA, images per second, loss with its parts, learning rate, and the last kNN and RankMe.

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
        parts += [f"{shown} {values[key]:.3g}" for key, shown in _PROBES.items() if key in values]
        return parts

    def _speed(self, storage: EventStorage, done: int) -> list[str]:
        if "time" not in storage.histories():  # the first steps are not timed
            return []
        seconds = storage.history("time").median(1000)
        left = seconds * (self._max_iter - done)
        storage.put_scalar("eta_seconds", left, smoothing_hint=False)
        storage.put_scalar("images_per_second", self._batch / seconds, smoothing_hint=False)
        return [f"eta {datetime.timedelta(seconds=int(left))}", f"{self._batch / seconds:.4g} images/s"]
