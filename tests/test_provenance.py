from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import torch
import torchvision
from detectron2.config import get_cfg

import clop_det
from clop_det import provenance
from clop_det.provenance import collect_provenance, device_name, git_state

_ROOT = Path(clop_det.__file__).resolve().parents[1]


def test_record_is_plain_and_names_the_versions():
    record = collect_provenance()
    assert json.loads(json.dumps(record)) == record
    assert record["torch"] == str(torch.__version__)
    assert torchvision.__version__.startswith(record["torchvision"].split("+")[0])
    assert record["clop_det"] == clop_det.__version__
    assert "detectron2" in record["detectron2"]
    assert all(type(value) in (str, int, bool, type(None)) for value in record.values())


def test_record_of_a_run():
    cfg = get_cfg()
    cfg.SEED = 7
    cfg.MODEL.DEVICE = "cpu"
    record = collect_provenance(cfg)
    assert record["seed"] == 7
    assert record["config_sha256"] == hashlib.sha256(cfg.dump().encode()).hexdigest()
    assert record["device"].startswith("cpu")
    cfg.SEED = 8
    assert collect_provenance(cfg)["config_sha256"] != record["config_sha256"]


def test_commit_is_gits():
    git = subprocess.run(["git", "-C", str(_ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    expected = git.stdout.strip() if git.returncode == 0 and (_ROOT / ".git").exists() else None
    assert git_state()[0] == expected


def test_no_commit_outside_a_checkout(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(provenance, "_ROOT", tmp_path)
    assert git_state() == (None, None)
    # Installed inside somebody else's repository: its commit is not ours.
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "lib").mkdir()
    monkeypatch.setattr(provenance, "_ROOT", tmp_path / "lib")
    assert git_state() == (None, None)


def test_an_untracked_file_is_a_difference_and_an_ignored_one_is_none(monkeypatch, tmp_path: Path):
    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True)

    git("init", "-q")
    (tmp_path / ".gitignore").write_text("*.log\n")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    monkeypatch.setattr(provenance, "_ROOT", tmp_path)
    assert git_state()[1] is False
    (tmp_path / "run.log").touch()
    assert git_state()[1] is False
    (tmp_path / "new_loss.py").touch()
    assert git_state()[1] is True


def test_device_name_of_a_missing_gpu_does_not_fail():
    assert device_name("cuda").startswith("cuda")
