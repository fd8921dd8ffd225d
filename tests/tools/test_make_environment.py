"""The environment that set-up makes, with stubs in the place of Detectron2."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "make_environment.py"


def run(python: Path | str, *words: str, folder: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(python), *words], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def with_official_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a virtual environment in which something called detectron2 is installed."""
    folder = tmp_path_factory.mktemp("user")
    venv.EnvBuilder(with_pip=False).create(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "detectron2").mkdir()
    (packages / "detectron2" / "__init__.py").touch()
    return folder / "bin" / "python"


def test_an_official_build_in_a_virtual_environment_is_used(with_official_build: Path, tmp_path: Path) -> None:
    assert run(with_official_build, str(SCRIPT), "made", folder=tmp_path) == "official"
    found = run(tmp_path / "made" / "bin" / "python", "-c", "import detectron2; print(detectron2)", folder=tmp_path)
    assert str(with_official_build.parents[1]) in found


def test_a_mere_folder_is_no_build_and_the_stamp_knows_the_interpreter(
    with_official_build: Path, tmp_path: Path
) -> None:
    (tmp_path / "detectron2").mkdir()
    bare = tmp_path / "bare"
    venv.EnvBuilder(with_pip=False).create(bare)
    assert run(bare / "bin" / "python", str(SCRIPT), "made", folder=tmp_path) == "copy"
    stamps = [
        run(python, str(SCRIPT), "--stamp", folder=tmp_path) for python in (bare / "bin/python", with_official_build)
    ]
    assert len(set(stamps)) == 2
    assert stamps[0] == run(bare / "bin/python", str(SCRIPT), "--stamp", folder=tmp_path)
    assert sys.version.split()[0] in stamps[0]
