from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from detectron2.utils.events import EventStorage

from clop_det.config.reading import read_config
from clop_det.engine.wandb_writer import WandbWriter, check_wandb
from clop_det.errors import UserError


def test_a_missing_package_is_one_error_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_wandb(read_config("", []))
    with pytest.raises(UserError, match=r"pip install .clop_det\[wandb\]"):
        check_wandb(read_config("", ["WANDB.ENABLED", "True"]))


def test_offline_it_leaves_its_files_in_the_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason='needs the extra: pip install "clop_det[wandb]"')
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with EventStorage(0) as storage:
        writer = WandbWriter(read_config("", ["WANDB.ENABLED", "True"]), str(tmp_path))
        storage.put_scalars(loss=2.0, lr=0.1)
        writer.write()
        storage.iter = 20
        storage.put_scalar("loss", 1.0)
        writer.write()
        writer.close()
    wandb.teardown()
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    content = log.read_bytes()
    assert b"loss" in content
    assert b"SOLVER.BASE_LR" in content
