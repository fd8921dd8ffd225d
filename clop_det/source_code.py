"""Which files a computation runs: the modules that it imports, found in their text, and a digest of each.

Only modules of this package and those that IMPORTS names count; installed packages are known by their versions.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from clop_det.files import sha256_of

PACKAGE = "clop_det"
_ROOT = Path(__file__).resolve().parent

# Modules that change no figure of a run, however they are edited, and why.
NO_FIGURES: dict[str, str] = {
    "clop_det.errors": "texts of messages",
    "clop_det.keys": "declares keys, whose values count themselves",
    "clop_det.config.build": "declared keys to a config, whose values count themselves",
    "clop_det.config.imports": "imports what IMPORTS names, which counts itself",
    "clop_det.config.reading": "reads a config, whose values count themselves",
    "clop_det.registry": "finds what a config names, which counts itself",
    "clop_det.provenance": "says where a file comes from",
    "clop_det.source_code": "says which files were run",
    "clop_det.detectron2_provider": "finds Detectron2, whose version is in the provenance",
    "clop_det.locks": "keeps other processes out of a folder",
    "clop_det.engine.descent": "ends processes",
    "clop_det.engine.launching": "starts processes",
    "clop_det.engine.rendezvous": "finds the other processes of a run",
    "clop_det.engine.run_folder": "claims a folder and writes its files",
    "clop_det.engine.progress": "prints a line",
    "clop_det.engine.wandb_writer": "reports to a service",
    "clop_det.pretraining.curves": "draws",
    "clop_det.pretraining.pictures": "draws",
    "clop_det.detection.pictures": "draws",
    "clop_det.detection.report": "prints tables",
}


def code_files(modules: Iterable[str], imported: Mapping[str, Path] | None = None) -> dict[str, str]:
    """Digests of the files that a computation runs.

    Args:
        modules: dotted names of the modules that it begins with. Those of this package and of `imported` count, with
            every module of either that they import, anywhere in their text. The `__init__` of a package counts only
            where a name is defined in it; a name that it passes on leads to the module that defines it.
        imported: module -> file of what IMPORTS names; all of them count, by name and content, wherever they lie.

    Returns:
        file -> SHA-256, by name: "clop_det/losses/clop.py", or "my_losses.py" for what IMPORTS names.
    """
    finder = _Finder(imported or {})
    found: dict[str, Path] = {}
    waiting = [*modules, *(imported or {})]
    while waiting:
        name = waiting.pop()
        path = finder.file(name)
        if path is None or name in found or name in NO_FIGURES:
            continue
        found[name] = path
        waiting += finder.imported_by(path, name)
    return {_shown(name, path): sha256_of(path) for name, path in sorted(found.items())}


class _Finder:
    """Finds the files of dotted names: of this package, of IMPORTS and of what lies beside its files."""

    def __init__(self, imported: Mapping[str, Path]) -> None:
        self._imported = {name: Path(path) for name, path in imported.items()}
        # A dotted module of IMPORTS brings its package, a file the modules beside it.
        self._tops = {PACKAGE: _ROOT.parent}
        for name, path in self._imported.items():
            depth = name.count(".") + (path.name == "__init__.py")
            self._tops.setdefault(name.split(".")[0], path.parents[depth])
        self._beside = {path.parent for name, path in self._imported.items() if "." not in name}

    def file(self, name: str) -> Path | None:
        """The file of a module; None if it is none of ours."""
        if name in self._imported:
            return self._imported[name]
        top = self._tops.get(name.split(".")[0])
        for folder in [top] if top is not None else sorted(self._beside):
            base = folder.joinpath(*name.split("."))
            for path in (base.with_suffix(".py"), base / "__init__.py"):
                if path.is_file():
                    return path
        return None

    def imported_by(self, path: Path, name: str) -> Iterator[str]:
        """Modules that the file of module `name` imports."""
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for module, item in _imports(path, path.stat().st_mtime_ns, package):
            yield self._source(module, item)

    def _source(self, module: str, item: str, depth: int = 0) -> str:
        """The module that defines `item` of `module`: a module of that name, or the one that `__init__` has it from."""
        if item and self.file(f"{module}.{item}") is not None:
            return f"{module}.{item}"
        path = self.file(module)
        if path is None or path.name != "__init__.py" or depth > 8:
            return module
        for origin, name in _imports(path, path.stat().st_mtime_ns, module):
            if name == item and item:
                return self._source(origin, name, depth + 1)
        return module


def _shown(name: str, path: Path) -> str:
    """How the file of a module is called in records, wherever it lies."""
    return f"{name.replace('.', '/')}/__init__.py" if path.name == "__init__.py" else f"{name.replace('.', '/')}.py"


@functools.lru_cache(maxsize=4096)
def _imports(path: Path, changed: int, package: str) -> tuple[tuple[str, str], ...]:
    """(module, name taken from it; "" for the module itself) of every import in a file last changed at `changed`."""
    found: list[tuple[str, str]] = []
    try:
        tree = ast.parse(path.read_bytes() if path.suffix == ".py" else b"")  # bytes may declare their encoding
    except (SyntaxError, ValueError):
        return ()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join(filter(None, [*parts, node.module or ""]))
            found += [(module, alias.name) for alias in node.names]
    return tuple(found)
