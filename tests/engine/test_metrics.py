from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.utils.events import EventStorage, EventWriter

from clop_det.engine.metrics import Dispensable, MetricsWriter, drop_lines_from, read_metrics


def run(folder: Path, start: int, stop: int, period: int = 5, noise: float = 0.0) -> None:
    """A made-up run whose figures are functions of the iteration and whose times are not."""
    with EventStorage(start) as storage:
        writer = MetricsWriter(folder, start)
        for iteration in range(start, stop):
            storage.iter = iteration
            storage.put_scalars(loss=1 / (iteration + 1), time=noise + iteration)
            if (iteration + 1) % 10 == 0:
                storage.put_scalar("probe/knn_top1", iteration / 100, smoothing_hint=False)
            if (iteration + 1) % period == 0:
                writer.write()
        writer.close()


@pytest.mark.parametrize("killed_at", [10, 13, 17, 20, 24])
def test_killed_and_resumed_ends_in_the_same_bytes(tmp_path: Path, killed_at: int) -> None:
    (tmp_path / "whole").mkdir()
    run(tmp_path / "whole", 0, 30)
    (tmp_path / "killed").mkdir()
    run(tmp_path / "killed", 0, killed_at)
    with open(tmp_path / "killed" / "metrics.json", "a") as file:
        file.write('{"iteration": 24, "lo')  # the line that the kill tore
    run(tmp_path / "killed", 10, 30, noise=0.5)  # resumes from the checkpoint of iteration 9
    assert (tmp_path / "killed" / "metrics.json").read_bytes() == (tmp_path / "whole" / "metrics.json").read_bytes()


def test_times_are_kept_apart(tmp_path: Path) -> None:
    run(tmp_path, 0, 10)
    assert all("time" not in line for line in read_metrics(tmp_path))
    assert [line["time"] for line in read_metrics(tmp_path, "timing.json")] == [4, 9]


def test_values_are_those_of_the_step_itself(tmp_path: Path) -> None:
    run(tmp_path, 0, 10)
    assert [(line["iteration"], line["loss"]) for line in read_metrics(tmp_path)] == [(4, 1 / 5), (9, 1 / 10)]


def test_cutting_keeps_earlier_lines_untouched(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    lines = [json.dumps({"iteration": i, "x": i}) + "\n" for i in range(5)]
    path.write_text("".join(lines) + '{"torn')
    drop_lines_from(path, 3)
    assert path.read_text() == "".join(lines[:3])


@pytest.mark.parametrize(
    "damage",
    [b"\xff\xfe\n", b"[]\n", b"5\n", b'{"a": 1}\n', b'{"iteration": "x"}\n', b"[" * 100_000 + b"\n", b"\0" * 40],
)
def test_damaged_lines_cost_themselves_and_are_counted(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "metrics.json"
    lines = [b'{"iteration": 0, "x": 1}\n', b'{"iteration": 3, "x": 2}\n']
    path.write_bytes(lines[0] + damage + (b"" if damage.endswith(b"\n") else b"\n") + lines[1])
    assert [line["iteration"] for line in read_metrics(tmp_path)] == [0, 3]
    with caplog.at_level("WARNING"):
        drop_lines_from(path, 4)
    assert path.read_bytes() == b"".join(lines)
    assert "1 of 3 lines are damaged" in caplog.text


def test_a_lost_file_is_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING"):
        drop_lines_from(tmp_path / "metrics.json", 4)
    assert "there is no line; of the iterations before 4 it keeps 0 lines" in caplog.text


def test_a_writer_that_fails_ends_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(EventWriter):
        def write(self) -> None:
            raise ImportError("No module named tensorboard")

    with EventStorage(0) as storage, caplog.at_level("WARNING"):
        writer = Dispensable("TensorBoard's event files", Broken())
        storage.put_image("views", np.zeros((3, 4, 4), np.uint8))
        for _ in range(3):
            writer.write()
        writer.close()
        assert not storage._vis_data
    assert caplog.text.count("No module named tensorboard") == 1
    assert "metrics.json has all figures" in caplog.text
