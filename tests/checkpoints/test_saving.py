from __future__ import annotations

import enum
import logging
import multiprocessing
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.engine import SimpleTrainer, hooks
from detectron2.solver import LRMultiplier
from fvcore.common.param_scheduler import CosineParamScheduler
from torch import nn

from clop_det.checkpoints import integrity
from clop_det.checkpoints.integrity import sidecar_of
from clop_det.checkpoints.saving import SafeCheckpointer, plain
from clop_det.errors import UserError


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _saver(folder: Path, value: float = 0.0, **kwargs: Any) -> SafeCheckpointer:
    model = nn.Linear(50, 50)
    nn.init.constant_(model.weight, value)
    return SafeCheckpointer(model, str(folder), optimizer=torch.optim.SGD(model.parameters(), lr=0.1), **kwargs)


def _save(checkpointer: SafeCheckpointer, name: str, value: float, iteration: int) -> Path:
    nn.init.constant_(checkpointer.model.weight, value)
    checkpointer.save(name, iteration=iteration)
    path = Path(checkpointer.save_dir) / f"{name}.pth"
    os.utime(path, ns=(iteration * 10**9, iteration * 10**9))  # file systems with coarse clocks must not decide a test
    return path


def test_keeps_the_last_k_and_every_named_file(tmp_path: Path):
    checkpointer = _saver(tmp_path, keep=2)
    for iteration in range(5):
        _save(checkpointer, f"model_{iteration:07d}", iteration, iteration)
        if iteration == 1:
            _save(checkpointer, "model_best", iteration, iteration)
    _save(checkpointer, "model_final", 4, 5)
    kept = ["model_0000003.pth", "model_0000004.pth", "model_best.pth", "model_final.pth"]
    assert _names(tmp_path) == sorted(["last_checkpoint", *kept, *(f"{name}.sha256" for name in kept)])


def test_detectron2s_own_periodic_hook_writes_through_it(tmp_path: Path):
    checkpointer = _saver(tmp_path, keep=2)
    periodic = hooks.PeriodicCheckpointer(checkpointer, period=2, max_iter=7)
    for iteration in range(7):
        periodic.step(iteration)
    names = [name for name in _names(tmp_path) if name.endswith(".pth")]
    assert names == ["model_0000003.pth", "model_0000005.pth", "model_final.pth"]


@pytest.mark.parametrize("how", ["flip", "truncate", "flip, no sidecar", "empty", "foreign"])
def test_resumes_from_the_newest_that_verifies_and_says_what_it_skipped(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
):
    checkpointer = _saver(tmp_path)
    _save(checkpointer, "model_0000001", 1.0, 1)
    newest = _save(checkpointer, "model_0000002", 2.0, 2)
    if how.startswith("flip"):
        _flip(newest)
    elif how == "truncate":
        newest.write_bytes(newest.read_bytes()[:-1000])
    elif how == "empty":
        newest.write_bytes(b"")
    else:  # weights without training state, left in the folder by hand
        torch.save({"model": checkpointer.model.state_dict()}, newest)
    if how in ("flip, no sidecar", "foreign"):
        sidecar_of(newest).unlink()
    os.utime(newest, ns=(3 * 10**9, 3 * 10**9))
    fresh = _saver(tmp_path, 9.0)
    with caplog.at_level(logging.WARNING):
        extra = fresh.resume_or_load("", resume=True)
    assert extra["iteration"] == 1
    assert bool((fresh.model.weight == 1.0).all())
    assert "model_0000002.pth" in caplog.text


def test_intact_newest_is_taken_even_if_the_tag_points_elsewhere(tmp_path: Path):
    checkpointer = _saver(tmp_path)
    _save(checkpointer, "model_0000001", 1.0, 1)
    _save(checkpointer, "model_0000002", 2.0, 2)
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    assert _saver(tmp_path).resume_or_load("")["iteration"] == 2


@pytest.mark.parametrize("times", ["equal", "reversed"])
def test_the_iteration_decides_which_is_newest_not_the_time_of_a_copy(tmp_path: Path, times: str):
    checkpointer = _saver(tmp_path, keep=2)
    _save(checkpointer, "model_best", 1.0, 1)
    for iteration in (2, 3):
        _save(checkpointer, f"model_{iteration:07d}", iteration, iteration)
    for path in tmp_path.glob("*.pth"):  # as a copy or an archive may leave them
        iteration = torch.load(path, weights_only=True)["iteration"]
        os.utime(path, (9 - iteration,) * 2 if times == "reversed" else (9, 9))
    fresh = _saver(tmp_path, keep=2)
    assert fresh.resume_or_load("", resume=True)["iteration"] == 3
    fresh.save("model_0000004", iteration=4)
    assert sorted(path.name for path in tmp_path.glob("model_0*.pth")) == ["model_0000003.pth", "model_0000004.pth"]


def test_what_is_saved_stays_though_damaged_files_are_of_later_iterations(tmp_path: Path):
    checkpointer = _saver(tmp_path, keep=2)
    _save(checkpointer, "model_best", 1.0, 1)
    for iteration in (5, 6):
        _flip(_save(checkpointer, f"model_{iteration:07d}", iteration, iteration))
    fresh = _saver(tmp_path, keep=2)
    assert fresh.resume_or_load("", resume=True)["iteration"] == 1
    for iteration in (2, 3):
        _save(fresh, f"model_{iteration:07d}", iteration, iteration)
    assert sorted(path.name for path in tmp_path.glob("model_0*.pth")) == ["model_0000002.pth", "model_0000003.pth"]


def test_nothing_verifies_is_an_error_not_a_fresh_start(tmp_path: Path):
    path = _save(_saver(tmp_path), "model_0000001", 1.0, 1)
    _flip(path)
    fresh = _saver(tmp_path, 9.0)
    assert fresh.has_checkpoint()
    with pytest.raises(UserError, match=r"model_0000001\.pth"):
        fresh.resume_or_load("", resume=True)
    assert bool((fresh.model.weight == 9.0).all())


def test_empty_folder_and_no_resume_load_only_the_model(tmp_path: Path):
    assert _saver(tmp_path / "new").resume_or_load("", resume=True) == {}
    path = _save(_saver(tmp_path), "model_0000001", 1.0, 1)
    fresh = _saver(tmp_path / "new", 5.0)
    fresh.checkpointables["optimizer"].param_groups[0]["lr"] = 7.0
    fresh.resume_or_load(str(path), resume=False)
    assert bool((fresh.model.weight == 1.0).all())
    assert fresh.checkpointables["optimizer"].param_groups[0]["lr"] == 7.0


def _die_while_saving(folder: str) -> None:
    real = torch.save

    def half(value: Any, file: Any) -> None:
        import io

        buffer = io.BytesIO()
        real(value, buffer)
        file.write(buffer.getvalue()[: buffer.tell() // 2])
        os._exit(9)

    integrity.torch.save = half  # type: ignore[assignment]
    _saver(Path(folder), 2.0).save("model_0000002", iteration=2)


def test_killed_while_saving(tmp_path: Path):
    checkpointer = _saver(tmp_path)
    _save(checkpointer, "model_0000001", 1.0, 1)
    process = multiprocessing.get_context("fork").Process(target=_die_while_saving, args=(str(tmp_path),))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    assert "model_0000002.pth" not in _names(tmp_path)
    assert any(name.endswith(".tmp") for name in _names(tmp_path)), "the test must have died in the middle of writing"
    fresh = _saver(tmp_path)
    assert fresh.resume_or_load("")["iteration"] == 1
    fresh.save("model_0000003", iteration=3)
    assert not any(name.endswith(".tmp") for name in _names(tmp_path))


def test_a_crash_between_file_and_sidecar_leaves_a_file_that_verifies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    checkpointer = _saver(tmp_path)
    _save(checkpointer, "model_best", 1.0, 1)

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(integrity, "write_text", crash)
    with pytest.raises(KeyboardInterrupt):
        _save(checkpointer, "model_best", 2.0, 2)
    assert _saver(tmp_path).resume_or_load("")["iteration"] == 2


class _Trainer(SimpleTrainer):
    """A few steps of regression with momentum, warm learning rate and data drawn from the iteration alone."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        super().__init__(model, [None], optimizer)
        scheduler = LRMultiplier(optimizer, CosineParamScheduler(1.0, 0.0), max_iter=6)
        self.checkpointer = SafeCheckpointer(model, str(folder), trainer=self, provenance={"seed": np.int64(1)})
        saver = hooks.PeriodicCheckpointer(self.checkpointer, period=3)
        self.register_hooks([hooks.LRScheduler(optimizer, scheduler), saver])

    def run_step(self) -> None:
        batch = torch.randn(16, 4, generator=torch.Generator().manual_seed(self.iter))
        loss = (self.model(batch) - batch.sum(1, keepdim=True)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path):
    whole = _Trainer(tmp_path / "whole")
    whole.train(0, 6)
    first = _Trainer(tmp_path / "parts")
    first.train(0, 3)
    second = _Trainer(tmp_path / "parts")
    extra = second.checkpointer.resume_or_load("", resume=True)
    assert extra["provenance"] == {"seed": 1}
    second.train(second.iter + 1, 6)
    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(second.model.state_dict()[name], tensor, rtol=0, atol=0)


def test_only_rank_zero_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("detectron2.utils.comm.get_rank", lambda: 1)
    _saver(tmp_path / "run").save("model_0000001")
    assert not (tmp_path / "run").exists()


def test_data_parallel_wrappers_do_not_reach_the_file(tmp_path: Path):
    SafeCheckpointer(nn.DataParallel(nn.Linear(2, 2)), str(tmp_path)).save("model_final")
    assert list(torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]) == ["weight", "bias"]


class _Colour(int, enum.Enum):
    RED = 3


def test_plain_makes_states_that_weights_only_reads(tmp_path: Path):
    value = plain(
        {
            "a": np.float32(1.5),
            "b": np.arange(3),
            "c": OrderedDict(x=(1, None)),
            "d": _Colour.RED,
            5: {1},
            "t": torch.ones(1),
        }
    )
    torch.save(value, tmp_path / "a.pth")
    read = torch.load(tmp_path / "a.pth", weights_only=True)
    assert (read["a"], read["b"].tolist(), read["c"], read["d"], read[5]) == (1.5, [0, 1, 2], {"x": (1, None)}, 3, {1})
    assert type(value["d"]) is int


def test_plain_refuses_objects_and_says_where():
    with pytest.raises(TypeError, match=r"state\.a\[1\] is a Path|state\.a\[1\] is a PosixPath"):
        plain({"a": [1, Path("x")]})


def test_missing_weights_are_one_clear_error(tmp_path: Path):
    checkpointer = _saver(tmp_path)
    for _ in range(2):  # Detectron2 stays in the middle of a failed load and then fails differently
        with pytest.raises(UserError, match=r"none\.pth"):
            checkpointer.load(str(tmp_path / "none.pth"))


def test_an_unwritable_folder_is_one_clear_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        _saver(tmp_path / "file" / "run").save("model_final")
