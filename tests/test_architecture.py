"""The rooms of the package: arrows point down only, and no modules import each other in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "clop_det"

# From the top down, rooms of equal height in one line. The longest prefix of a module's name says its room.
ROOMS: list[tuple[str, ...]] = [
    ("commands",),
    ("api",),
    ("comparison.experiment",),
    ("comparison.report", "comparison.calibration"),
    ("comparison.results", "comparison.running"),
    ("comparison.planning",),
    ("comparison",),
    ("ranking",),
    ("doctor",),
    ("pretraining", "detection"),
    ("methods",),
    ("conversion",),
    ("annotations",),
    ("probes",),
    ("backbones",),
    ("data",),
    ("losses", "collapse"),
    ("checkpoints",),
    ("engine", "config", ""),  # the ground: these two, and the modules beside the rooms
]
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}
# Rooms of equal height that never import each other.
APART = {"pretraining", "detection", "comparison.results", "comparison.running"}


def room(module: str) -> str:
    parts = module.split(".")[1:]
    return next(name for n in range(len(parts), -1, -1) if (name := ".".join(parts[:n])) in RANK)


@cache
def modules() -> dict[str, Path]:
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> tuple[str, ...]:
    """Modules of the package that `module` imports anywhere in its text; of a package the module that a name names."""
    return tuple(dict.fromkeys(name for name in _imports(modules()[module]) if name in modules() and name != module))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules() else str(node.module)


def runs_up(module: str, other: str) -> bool:
    """Whether an import leads to a higher room, or across to one that is to be apart."""
    own, its = room(module), room(other)
    return RANK[its] < RANK[own] or (RANK[its] == RANK[own] and its != own and {own, its} <= APART)


def test_no_import_runs_up() -> None:
    found = {(module, other) for module in modules() for other in imports(module) if runs_up(module, other)}
    assert found == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    found = {tuple(sorted(group)) for group in _components() if len(group) > 1}
    assert found == set()


@pytest.mark.parametrize(
    ("module", "other", "up"),
    [
        ("clop_det.data.store", "clop_det.pretraining.run", True),
        ("clop_det.pretraining.run", "clop_det.detection.run", True),
        ("clop_det.comparison.results.runs", "clop_det.comparison.running.progress", True),
        ("clop_det.comparison.planning.plan", "clop_det.comparison.results.runs", True),
        ("clop_det.files", "clop_det.data.store", True),
        ("clop_det.engine.stop", "clop_det.config.reading", False),
        ("clop_det.commands.compare", "clop_det.files", False),
    ],
)
def test_the_rule_itself(module: str, other: str, up: bool) -> None:
    assert runs_up(module, other) is up


def _components() -> list[list[str]]:
    """The strongly connected components of the imports (Tarjan 1972)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        stack.append(module)
        for other in imports(module):
            if other not in number:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], number[other])
        if low[module] == number[module]:
            place = stack.index(module)
            found.append(stack[place:])
            del stack[place:]

    for module in modules():
        if module not in number:
            visit(module)
    return found
