"""What belongs to the entries of IMPORTS that this process has imported: modules with their keys, names and files."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from clop_det.config.imports import IMPORTED, KEY, Import
from clop_det.errors import UserError
from clop_det.registry import in_use


def imported_files(cfg: Mapping[str, Any]) -> dict[str, Path]:
    """Module name -> file, for the modules that a config imports and those of the same folder or package they use."""
    names = {name for entry in cfg[KEY] for name in _modules_of(entry)}
    return {name: path for name in sorted(names) if (path := _file_of(sys.modules[name])) is not None}


def modules_of_others(entries: Sequence[str]) -> set[str]:
    """Names of the modules that this process imported for other configs than one with these `entries`."""
    wanted = {name for entry in entries for name in _modules_of(entry)}
    return {name for entry in IMPORTED for name in _modules_of(entry)} - wanted


def check_in_use_is_imported(cfg: Mapping[str, Any], stage: str) -> None:
    """Refuse a name that is not registered, or only by a module that the process imported for other configs.

    Raises:
        UserError: names what is registered, or the module that IMPORTS lacks.
    """
    others = modules_of_others(cfg[KEY])
    for (kind, name), entry in in_use(cfg, stage, strict=True).items():
        if entry.module in others:
            raise UserError(
                f"the {kind} {name!r} is registered by {entry.module}, which this config does not import. Add it to"
                f" IMPORTS: {_file_of(sys.modules[entry.module]) or entry.module}."
            )


def _modules_of(entry: str) -> set[str]:
    """Names of the loaded modules of an entry: its own, and those of its folder or package that these import."""
    if entry not in IMPORTED:
        return set()
    item, module = IMPORTED[entry]
    names, waiting = set[str](), [module.__name__]
    while waiting:
        name = waiting.pop()
        if name in names or name not in sys.modules or not _belongs(name, item):
            continue
        names.add(name)
        waiting += _imported_in(name, _file_of(sys.modules[name]))
    return names


@cache
def _imported_in(name: str, file: Path | None) -> tuple[str, ...]:
    """Names of the modules that the source of a module imports, anywhere in it, and of the packages around them."""
    try:
        tree = ast.parse(file.read_bytes()) if file else ast.Module([], [])
    except (OSError, SyntaxError, ValueError):
        return ()
    package = sys.modules[name].__package__ or ""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            try:
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            except ImportError:  # a relative import in a file that lies in no package fails where it is run
                continue
            found += [f"{base}.{alias.name}" for alias in node.names]
    return tuple(".".join(dotted.split(".")[: end + 1]) for dotted in found for end in range(dotted.count(".") + 1))


def _belongs(name: str, item: Import) -> bool:
    """Whether a loaded module lies in the folder of a file entry, or in the package of a dotted one."""
    if item.file is None:
        return name.split(".")[0] == item.entry.split(".")[0]
    path = _file_of(sys.modules[name])
    if path is None:
        return False
    above = name.count(".") + (path.name == "__init__.py")
    return above < len(path.parents) and path.parents[above] == item.file.parent


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file else None
