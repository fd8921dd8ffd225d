"""Makes `import detectron2` work with whichever Detectron2 is installed.

An official build always wins: the finder for the name `detectron2` itself stands at the end of `sys.meta_path`, so it
is asked only for what the ordinary finders did not find. It then serves the complete Python package of Detectron2 0.6
that the PyPI wheel `labgym` carries as `LabGym.detectron2`. A module has one object under either name, so no registry
exists twice; for this the finder for submodules must stand *before* the ordinary ones, which would otherwise find the
copy's files through the package's `__path__` and run each a second time.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
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


class _AliasFinder:
    """Meta-path finder for `detectron2` itself, backed by the PyPI copy; to stand after the ordinary finders."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _NAME:
            return None
        if not copy_is_installed():
            raise ModuleNotFoundError(REMEDY, name=name)
        return _alias_spec(name)


class _SubmoduleFinder:
    """Meta-path finder for `detectron2.x` where `detectron2` is the copy; to stand before the ordinary finders."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        # A native build that lacks a submodule must not be completed from the copy.
        if not name.startswith(_NAME + ".") or sys.modules.get(_NAME) is not sys.modules.get(_COPY):
            return None
        return _alias_spec(name)


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
    """Put the finders on `sys.meta_path`; doing so twice changes nothing."""
    if not any(isinstance(finder, _AliasFinder) for finder in sys.meta_path):
        sys.meta_path.append(_AliasFinder())  # type: ignore[arg-type]
    if not any(isinstance(finder, _SubmoduleFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _SubmoduleFinder())  # type: ignore[arg-type]


def describe() -> str:
    """One line for the log: which Detectron2 runs, and its version.

    Raises:
        ModuleNotFoundError: neither the official build nor the copy is installed; the message holds the remedy.
    """
    module = importlib.import_module(_NAME)
    version = getattr(module, "__version__", "unknown")
    if module.__name__ == _NAME:
        return f"detectron2 {version} (official build)"
    return f"detectron2 {version} (pure-Python copy from the PyPI wheel labgym; no compiled extension)"
