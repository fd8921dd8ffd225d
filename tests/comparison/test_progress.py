"""Progress and estimates, from what runs write."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from clop_det.comparison.planning.identity import Identity
from clop_det.comparison.planning.jobs import Job
from clop_det.comparison.running.display import Display
from clop_det.comparison.running.progress import Estimator, finished_seconds, read_progress
from clop_det.engine.clock import clock


def test_progress_of_a_run(tmp_path: Path) -> None:
    assert read_progress(tmp_path).iteration == 0
    padding = "".join(json.dumps({"iteration": i, "total_loss": 0.5}) + "\n" for i in range(2000))
    (tmp_path / "metrics.json").write_text(padding + '{"iteration": 2000, "tot')  # being written
    (tmp_path / "timing.json").write_text(
        '{"iteration": 1980, "eta_seconds": 12.5}\n{"iteration": 1999, "time": 0.1}\n'
    )
    progress = read_progress(tmp_path)
    assert progress.iteration == 2000
    assert progress.seconds_left == 12.5
    assert progress.changed > 0


def test_estimates_come_from_like_jobs_then_from_the_rate_of_the_kind() -> None:
    estimator = Estimator()
    short, long = Job("detect", "a", Identity("1"), iterations=100), Job("detect", "b", Identity("2"), iterations=300)
    other = Job("pretrain", "c", Identity("3"), iterations=100)
    assert estimator.expected(short) is None
    estimator.learn(short, 10.0)
    estimator.learn(short, 14.0)
    assert estimator.expected(short) == 12.0
    assert estimator.expected(long) == pytest.approx(36.0)
    assert estimator.expected(other) is None
    assert estimator.remaining([short, short], {"x": 4.0}, 2) == (14.0, True)
    assert estimator.remaining([long], {}, 4) == (pytest.approx(36.0), True)  # one job cannot be shared out
    assert estimator.remaining([short, other], {}, 1) == (12.0, False)
    assert estimator.remaining([], {"x": None}, 1) == (0.0, False)


def test_finished_seconds(tmp_path: Path) -> None:
    assert finished_seconds(tmp_path) is None
    (tmp_path / "job.json").write_text(json.dumps({"attempts": [{"seconds": 2.0}, {"seconds": 3.5}]}))
    assert finished_seconds(tmp_path) == 5.5
    (tmp_path / "job.json").write_text(json.dumps({"attempts": [{"started": "x"}, {"seconds": 3.5}]}))
    assert finished_seconds(tmp_path) is None  # an attempt that ended without a record


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3661, "1:01:01"), (-3, "0:00")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_display_redraws_on_a_terminal_and_repeats_elsewhere() -> None:
    terminal = Terminal()
    display = Display(terminal)
    display.status("x" * 500)
    display.event("done")
    assert terminal.getvalue().startswith("\r\x1b[2K")
    assert "…" in terminal.getvalue()
    assert terminal.getvalue().endswith("done\n")
    plain = io.StringIO()
    quiet, loud = Display(plain, repeat=1e9), Display(plain, repeat=0.0)
    quiet.status("not shown")
    loud.status("shown")
    assert plain.getvalue() == "shown\n"
