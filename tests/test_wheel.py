"""The wheel by itself: built, installed beside the environment's packages, used from another folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(words: list[str], folder: Path, **variables: str) -> str:
    environment = {**os.environ, **variables}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that the wheel is installed into."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    run(["git", "clone", "-q", str(ROOT), str(source)], ROOT)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)], folder)
    (wheel,) = folder.glob("clop_det-*.whl")
    run([*pip, "install", "--no-deps", "--no-index", "--target", str(folder / "site"), str(wheel)], folder)
    return folder / "site"


def test_the_wheel_has_the_command_the_configs_and_the_references(installed: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(installed / "bin" / "clop-det")]
    listed = run([*command, "config", "list"], tmp_path, PYTHONPATH=str(installed)).splitlines()
    assert "compare/digits.yaml" in listed
    assert len(listed) == len(list((ROOT / "configs").rglob("*.yaml")))
    assert "LOSS.NAME" in run([*command, "pretrain", "--help"], tmp_path, PYTHONPATH=str(installed))


def test_a_pretraining_of_two_steps_from_another_folder(installed: Path, tmp_path: Path) -> None:
    script = (
        "import clop_det, sys; print(clop_det.__file__); from clop_det.commands.main import main; main(sys.argv[1:])"
    )
    words = ["pretrain", "--config-file", "pretrain/resnet18_digits.yaml", "OUTPUT_DIR", "run", "SOLVER.MAX_ITER", "2"]
    words += ["PROBE.ENABLED", "False", "SOLVER.IMS_PER_BATCH", "8", "MODEL.DEVICE", "cpu", "LOSS.NAME", "clop"]
    said = run([sys.executable, "-W", "ignore", "-c", script, *words], tmp_path, PYTHONPATH=str(installed))
    assert said.startswith(str(installed))
    assert (tmp_path / "run" / "results.json").is_file()
