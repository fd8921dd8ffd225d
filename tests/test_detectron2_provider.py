from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import detectron2
import pytest

from clop_det import detectron2_provider

on_copy = pytest.mark.skipif(detectron2.__name__ == "detectron2", reason="an official build is installed")


def run_python(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    prelude = "".join(f"import sys; sys.path.insert(0, {str(entry)!r})\n" for entry in path)
    return subprocess.run([sys.executable, "-c", prelude + code], capture_output=True, text=True, timeout=120)


@on_copy
def test_one_module_object_under_both_names() -> None:
    code = """
import clop_det
from detectron2.modeling.backbone import resnet as alias
from LabGym.detectron2.modeling.backbone import resnet as real
from detectron2.modeling import BACKBONE_REGISTRY
assert alias is real
assert alias.__spec__.name == "LabGym.detectron2.modeling.backbone.resnet"
assert "build_resnet_backbone" in BACKBONE_REGISTRY
import detectron2.config.defaults, LabGym.detectron2.config.defaults as d
assert detectron2.config.defaults is d
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_an_official_build_wins(tmp_path: Path) -> None:
    package = tmp_path / "detectron2"
    package.mkdir()
    (package / "__init__.py").write_text("__version__ = '9.9'\n")
    code = """
import sys  # an editable official build has a finder of its own, which would serve this one's submodules
sys.meta_path[:] = [finder for finder in sys.meta_path if "detectron2" not in str(getattr(finder, "__module__", ""))]
import clop_det
from clop_det import detectron2_provider
print(detectron2_provider.describe())
try:
    import detectron2.config
except ModuleNotFoundError:
    print("not completed from the copy")
"""
    done = run_python(code, tmp_path)
    assert done.stdout.splitlines() == ["detectron2 9.9 (official build)", "not completed from the copy"], done.stderr


@on_copy
def test_a_mere_folder_of_that_name_is_no_official_build(tmp_path: Path) -> None:
    (tmp_path / "detectron2" / "detectron2").mkdir(parents=True)
    done = run_python("import clop_det, detectron2.config; print(detectron2.__name__)", tmp_path)
    assert done.stdout.strip() == "LabGym.detectron2", done.stderr


def test_an_official_checkout_is_named_with_its_commit(tmp_path: Path) -> None:
    package = tmp_path / "checkout" / "detectron2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("__version__ = '0.6'\n")
    git = ["git", "-C", str(package.parent), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout[:10]
    done = run_python("import clop_det.detectron2_provider as d; print(d.describe())", package.parent)
    assert done.stdout.strip() == f"detectron2 0.6 (official build, commit {head})", done.stderr


def test_neither_is_one_clear_error() -> None:
    code = """
import sys, importlib.abc
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("LabGym",) :
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hide())
sys.path = [p for p in sys.path]
import clop_det
import detectron2
"""
    if detectron2.__name__ == "detectron2":
        pytest.skip("an official build is installed")
    done = run_python(code)
    assert done.returncode == 1
    assert "pip install --no-deps --ignore-requires-python labgym" in done.stderr.splitlines()[-1]


def test_installing_twice_adds_one_finder() -> None:
    before = list(sys.meta_path)
    detectron2_provider.install()
    assert sys.meta_path == before


def test_importing_the_package_imports_no_framework() -> None:
    done = run_python("import clop_det, sys; print([m for m in ('torch', 'detectron2', 'LabGym') if m in sys.modules])")
    assert done.stdout.strip() == "[]"


@on_copy
def test_its_import_hides_a_deprecation_of_its_own_and_of_no_one_else() -> None:
    code = """
import clop_det, warnings
from detectron2.modeling import build_model
warnings.warn("`torch.jit.script` is deprecated: said by the reader's own code", FutureWarning)
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "FutureWarning" in line and "reader's own" not in line] == []
    assert "reader's own code" in done.stderr
