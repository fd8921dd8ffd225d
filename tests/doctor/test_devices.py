"""What the doctor finds in a machine: cards, their number, precision on them, and the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from clop_det.config.reading import read_config
from clop_det.doctor import diagnose
from clop_det.doctor import resources as resources_module
from tests.doctor.runs import CONFIG, bad_in, diagnosed, pairs_of


def _gpus(monkeypatch: pytest.MonkeyPatch, count: int, capability: tuple[int, int] = (8, 0)) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80", "sm_90", "compute_120"])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")


def test_a_card_that_torch_has_no_kernels_for(
    root: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _gpus(monkeypatch, 1, (7, 0))
    found = diagnosed(pairs_of(root, weights, tmp_path, MODEL__DEVICE="cuda"))
    assert bad_in(found) == {"device": "error"}
    assert "Tesla V100 of compute capability 7.0" in found["device"][0].message


def test_a_card_that_is_not_used(root: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _gpus(monkeypatch, 1)
    assert bad_in(diagnosed(pairs_of(root, weights, tmp_path))) == {"device": "warn"}


def test_fp16_on_a_gpu_is_healthy(root: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _gpus(monkeypatch, 1)
    found = diagnosed(pairs_of(root, weights, tmp_path, MODEL__DEVICE="cuda", SOLVER__AMP__ENABLED=True))
    assert bad_in(found) == {}
    assert "100 of 100" in found["tensors"][0].message
    monkeypatch.undo()
    without_gpu = diagnosed(pairs_of(root, weights, tmp_path, SOLVER__AMP__ENABLED=True))
    assert bad_in(without_gpu) == {"precision": "error"}


def test_gpus_are_counted_a_machine(root: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _gpus(monkeypatch, 2)
    cfg = read_config(CONFIG, pairs_of(root, weights, tmp_path, MODEL__DEVICE="cuda", MODEL__RESNETS__NORM="SyncBN"))
    for machines, statuses in ((2, ["ok"]), (1, ["error"])):
        found = diagnose(cfg, processes=4, machines=machines)
        assert [finding.status for finding in found if finding.check == "device"] == statuses
        assert [finding.status for finding in found if finding.check == "tensors"] == ["ok"], "SyncBN builds on a CPU"


def test_cpu_processes_that_would_meet_over_nccl(
    root: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = diagnosed(pairs_of(root, weights, tmp_path, MODEL__RESNETS__NORM="naiveSyncBN"), processes=2)
    assert bad_in(found) == {"device": "error"}
    assert "NCCL" in found["device"][0].message


@pytest.mark.parametrize(("free", "status"), [(10**6, "error"), (10**9, "warn"), (10**12, "ok")])
def test_disk(free: int, status: str, root: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr(resources_module.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(resources_module, "_DETECTOR_BYTES", 20 << 20)
    assert diagnosed(pairs_of(root, weights, tmp_path))["disk"][0].status == status


def test_gpu_that_is_not_there(root: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = diagnosed(pairs_of(root, weights, tmp_path, MODEL__DEVICE="cuda"))
    assert bad_in(found) == {"device": "error"}
