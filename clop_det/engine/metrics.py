"""metrics.json as a pure function of the run: no times in it, nothing smoothed, and cut back to where a run resumes.

Detectron2's JSONWriter writes wall times and medians over a window of earlier steps into the same lines; both differ
after a resume. Here metrics.json holds the values of the step itself, so that an interrupted and an uninterrupted run
end with the same bytes; times go to timing.json.
"""

from __future__ import annotations

import json
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    TensorboardXWriter,
    get_event_storage,
)

from clop_det.errors import UserError
from clop_det.files import atomic_write, check_ordinary

_log = logging.getLogger(__name__)
METRICS_NAME = "metrics.json"
TIMING_NAME = "timing.json"
TIMING_KEYS = frozenset({"time", "data_time", "rank_data_time", "eta_seconds", "images_per_second", "eval_seconds"})


class MetricsWriter(EventWriter):
    """Appends one JSON object a line, for each iteration that has new scalars, to metrics.json and timing.json."""

    def __init__(self, folder: str | os.PathLike[str], start_iter: int) -> None:
        """`start_iter`: lines of this and later iterations, left by a run that was interrupted, are dropped."""
        paths = [Path(folder) / name for name in (METRICS_NAME, TIMING_NAME)]
        for path in paths:
            drop_lines_from(path, start_iter)
        self._metrics, self._timing = (path.open("a", encoding="utf-8") for path in paths)
        self._last_write = start_iter - 1

    def write(self) -> None:
        lines: dict[int, dict[str, float]] = defaultdict(dict)
        times: dict[int, dict[str, float]] = defaultdict(dict)
        for key, (value, iteration) in get_event_storage().latest().items():
            if iteration > self._last_write:
                (times if key in TIMING_KEYS else lines)[iteration][key] = value
        for file, entries in ((self._metrics, lines), (self._timing, times)):
            for iteration in sorted(entries):
                file.write(json.dumps({**entries[iteration], "iteration": iteration}, sort_keys=True) + "\n")
            file.flush()
        os.fsync(self._metrics.fileno())
        self._last_write = max([self._last_write, *lines, *times])

    def close(self) -> None:
        self._metrics.close()
        self._timing.close()


class Dispensable(EventWriter):
    """A writer whose first failure is its end, with a warning, and not the run's: metrics.json holds all figures."""

    def __init__(self, name: str, writer: EventWriter) -> None:
        self._name, self._writer = name, writer
        self._lost = False

    def write(self) -> None:
        if self._lost:
            get_event_storage().clear_images()  # the storage waits for its reader
            return
        try:
            self._writer.write()
        except Exception as error:
            self._lost = True
            _log.warning(
                "%s end before iteration %d (%s: %s); metrics.json has all figures",
                *(self._name, get_event_storage().iter, type(error).__name__, error),
            )

    def close(self) -> None:
        if not self._lost:
            with dispensable(self._name):
                self._writer.close()


@contextmanager
def dispensable(what: str) -> Iterator[None]:
    """Within, a failure costs `what`, named in a warning, and not the run."""
    try:
        yield
    except Exception as error:
        _log.warning("%s: not made (%s: %s)", what, type(error).__name__, " ".join(str(error).split()))


class AlignedWriter(HookBase):
    """Console line, metrics.json with timing.json, TensorBoard and others, written at fixed iterations.

    Written after the first step, every `period` steps, and wherever an evaluation or a checkpoint falls: a checkpoint
    newer than the last line would lose that line's values on resume. An interrupted run writes nothing on its way out:
    where it was interrupted must not show in the file.

    Args:
        folder: of the run.
        period: iterations between lines.
        also_every: further periods; 0 counts as none.
        printer: makes the writer of the console line from the last iteration.
        others: make further writers from the folder, e.g. for a service.
    """

    def __init__(
        self,
        folder: str,
        period: int,
        also_every: list[int],
        printer: Callable[[int], EventWriter] = CommonMetricPrinter,
        others: Sequence[Callable[[str], EventWriter]] = (),
    ) -> None:
        self._folder, self._printer, self._others = folder, printer, others
        self._periods = [p for p in [period, *also_every] if p > 0]
        self._writers: list[EventWriter] = []

    def before_train(self) -> None:
        start, stop = self.trainer.start_iter, self.trainer.max_iter
        self._writers = [
            self._printer(stop),
            MetricsWriter(self._folder, start),
            Dispensable("TensorBoard's event files", TensorboardXWriter(self._folder)),
            *(Dispensable(type(writer).__name__, writer) for writer in (make(self._folder) for make in self._others)),
        ]

    def after_step(self) -> None:
        if self.is_due(self.trainer.iter, self.trainer.max_iter):
            self._write()

    def after_train(self) -> None:
        if self.trainer.iter >= self.trainer.max_iter:
            self._write()
        for writer in self._writers:
            with suppress(OSError):  # what could not be written has been reported by `_write`
                writer.close()

    def is_due(self, iteration: int, max_iter: int) -> bool:
        """Whether a line is written after step `iteration`."""
        done = iteration + 1
        return done in (1, max_iter) or any(done % period == 0 for period in self._periods)

    def _write(self) -> None:
        try:
            for writer in self._writers:
                writer.write()
        except OSError as error:
            raise UserError(
                f"cannot write the metrics of iteration {self.trainer.iter} in {self._folder}: "
                f"{error.strerror or error}. Free space, then --resume goes on from the last checkpoint."
            ) from error


def read_metrics(folder: str | os.PathLike[str], name: str = METRICS_NAME) -> list[dict[str, Any]]:
    """The lines of metrics.json (or `name`), merged by iteration and in its order; a damaged line is passed over."""
    merged: dict[int, dict[str, Any]] = defaultdict(dict)
    for line in _lines(Path(folder) / name):
        if (entry := _entry(line)) is not None:
            merged[entry["iteration"]].update(entry)
    return [merged[iteration] for iteration in sorted(merged)]


def drop_lines_from(path: Path, start_iter: int) -> None:
    """Remove the lines of iteration `start_iter` and later, and damaged ones, from a file of JSON lines.

    What a run that goes on has lost with damaged lines, or with the file, is a warning. A torn last line is none: the
    run that was killed while it wrote it begins at or before its iteration.
    """
    kept, damaged = [], 0
    lines = _lines(path)
    for number, line in enumerate(lines, 1):
        entry = _entry(line)
        if entry is None:
            damaged += number < len(lines) or line.endswith(b"\n") or b"\0" in line
        elif line.endswith(b"\n") and entry["iteration"] < start_iter:
            kept.append(line)
    if damaged or (start_iter and not kept):
        lost = f"{damaged} of {len(lines)} lines are damaged" if damaged else "there is no line"
        _log.warning(
            "%s: %s; of the iterations before %d it keeps %d lines, and what the others said is lost",
            *(path, lost, start_iter, len(kept)),
        )
    if lines:
        with atomic_write(path) as file:
            file.write(b"".join(kept))


def _lines(path: Path) -> list[bytes]:
    check_ordinary(path)
    try:
        return path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}. Move it away, or choose another OUTPUT_DIR.") from error


def _entry(line: bytes) -> dict[str, Any] | None:
    """The iteration and figures of a line; None if it is damaged."""
    try:
        entry = json.loads(line)
        if not isinstance(entry, dict) or type(entry["iteration"]) is not int:
            return None
        numbers = [float(value) for value in entry.values() if type(value) in (int, float)]  # OverflowError: too large
        return entry if len(numbers) == len(entry) else None
    except (ValueError, RecursionError, KeyError, OverflowError):
        return None
