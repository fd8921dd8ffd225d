"""Makes `import detectron2` work with whichever Detectron2 is installed.

An official build always wins: the finder here first asks the ordinary finders, and steps in only where they find no
package of that name, or merely a folder without one (an uninstalled clone beside the program). It then serves the
complete Python package of Detectron2 0.6 that the PyPI wheel `labgym` carries as `LabGym.detectron2`. A module has one
object under either name, so no registry exists twice; for this the finder must stand *before* the ordinary ones, which
would otherwise find the copy's files through the package's `__path__` and run each a second time.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

_NAME = "detectron2"
_COPY = "LabGym.detectron2"
REMEDY = (
    "Detectron2 is not installed. Either build the official one (see its installation guide), or install the"
    " pure-Python copy from PyPI: pip install --no-deps --ignore-requires-python labgym==3.1.2"
)


class _AliasLoader:
    """Gives `detectron2.x` the module object of `LabGym.detectron2.x`."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        # The copy and fvcore compile functions with torch.jit.script as they are imported, which nobody who runs a tool
        # can change; every command would begin with the deprecation.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="`torch.jit.script` is", category=FutureWarning)
            module = importlib.import_module(self._target)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has just put the alias's spec on the module; its relative imports need its own.
        module.__spec__ = self._spec


class _Finder:
    """Meta-path finder for `detectron2` and, where that is the copy, for `detectron2.x`; to stand first."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == _NAME:
            if self._official(name) is not None:
                return None
            if not copy_is_installed():
                raise ModuleNotFoundError(REMEDY, name=name)
            return _alias_spec(name)
        # A native build that lacks a submodule must not be completed from the copy.
        if not name.startswith(_NAME + ".") or sys.modules.get(_NAME) is not sys.modules.get(_COPY):
            return None
        return _alias_spec(name)

    def _official(self, name: str) -> ModuleSpec | None:
        """What the finders behind this one find, unless it is a mere folder (a namespace has no file)."""
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = find(name, None) if find else None
            if spec is not None and spec.origin is not None:
                return spec  # type: ignore[no-any-return]
        return None


def _alias_spec(name: str) -> ModuleSpec | None:
    real = _COPY + name[len(_NAME) :]
    real_spec = importlib.util.find_spec(real)
    if real_spec is None:
        return None
    is_package = real_spec.submodule_search_locations is not None
    return ModuleSpec(name, _AliasLoader(real), origin=real_spec.origin, is_package=is_package)  # type: ignore[arg-type]


def copy_is_installed() -> bool:
    """Whether the PyPI copy is installed; imports nothing but the empty top package of its wheel."""
    try:
        return importlib.util.find_spec(_COPY) is not None
    except ModuleNotFoundError:
        return False


def install() -> None:
    """Put the finder on `sys.meta_path`; doing so twice changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())  # type: ignore[arg-type]


def describe() -> str:
    """One line for the log: which Detectron2 runs, its version, and of an official build its commit where it is known.

    Raises:
        ModuleNotFoundError: neither the official build nor the copy is installed; the message holds the remedy.
    """
    module = importlib.import_module(_NAME)
    version = getattr(module, "__version__", "unknown")
    if module.__name__ == _NAME:
        commit = _commit(Path(str(module.__file__)).parent)
        return f"detectron2 {version} (official build{f', commit {commit[:10]}' if commit else ''})"
    return f"detectron2 {version} (pure-Python copy from the PyPI wheel labgym; no compiled extension)"


def _commit(package: Path) -> str:
    """Commit of an official build, whose version is 0.6 at every commit: of its checkout, or what pip noted."""
    if (package.parent / ".git").exists():
        try:
            git = ["git", "-C", str(package.parent), "rev-parse", "HEAD"]
            return subprocess.run(git, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return ""
    try:
        noted = json.loads(importlib.metadata.distribution(_NAME).read_text("direct_url.json") or "{}")
        return str(noted.get("vcs_info", {}).get("commit_id", ""))
    except (importlib.metadata.PackageNotFoundError, ValueError, AttributeError):
        return ""
