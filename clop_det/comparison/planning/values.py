"""Values of a comparison's YAML: lists, mappings, names, grids and files, each checked where it is read."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clop_det.config.files import flatten
from clop_det.config.imports import KEY as IMPORTS
from clop_det.config.library import library
from clop_det.errors import UserError
from clop_det.keys import nearest

Point = tuple[tuple[str, Any], ...]  # one combination of a grid: ((config key, value), ...)

# The comparison sets these itself; an override would break the pairing or the run folders.
OWNED_KEYS = ("OUTPUT_DIR", "SEED", "MODEL.WEIGHTS")
# Where the matrix says what a row is called by, and with what.
_SAID_ELSEWHERE = {
    "LABELS.FRACTION": "COMPARE.LABEL_FRACTIONS",
    "LOSS.NAME": "LOSS of an entry of COMPARE.INITS",
    "PRETRAIN.FROM": "FROM of an entry of COMPARE.INITS",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


def find(name: str, folder: Path) -> Path:
    """The file `name`: beside the comparison's file, in the working directory, or among the shipped configs.

    Raises:
        UserError: it is in none of them; the first two places and the nearest file there are named.
    """
    candidates = [folder / Path(name).expanduser(), Path(name).expanduser()]
    for candidate in (*candidates, library() / name):
        if candidate.is_file():
            return candidate
    beside = candidates[0].parent
    close = nearest(candidates[0].name, [item.name for item in beside.iterdir()]) if beside.is_dir() else ""
    raise UserError(f'no file "{name}": looked for {candidates[0]} and {candidates[1]}.{close}')


def read_grid(node: Any, where: str) -> tuple[Point, ...]:
    """Every combination of a mapping from config keys to lists of values."""
    axes = read_opts(node, where)
    for key, values in axes.items():
        if not isinstance(values, (list, tuple)) or not values:
            raise UserError(f"{where} {key} must be a list of values, not {values!r}.")
        check_unique([repr(value) for value in values], f"{where} {key}")
    return tuple(
        tuple(zip(axes, combination, strict=True)) for combination in itertools.product(*(axes[key] for key in axes))
    )


def check_apart(opts: Mapping[str, Any], grid: Sequence[Point], where: str, grid_name: str) -> None:
    """Refuse, with UserError, a key that both set: the row would be named by the grid and run with the other value."""
    both = [key for key, _ in (grid[0] if grid else ()) if key in opts]
    if both:
        raise UserError(f"{where} sets {both[0]}, which {grid_name} varies. Set it in one of the two.")


def read_opts(node: Any, where: str) -> dict[str, Any]:
    """A mapping of config keys, nested or dotted, without those that the comparison sets itself."""
    if not isinstance(node, Mapping):
        raise UserError(f"{where} must be a mapping of config keys to values, not {node!r}.")
    opts = dict(flatten(node))
    for key in opts:
        if key == IMPORTS:
            raise UserError(f"{where} sets IMPORTS. Name the modules beside COMPARE, or in the config that needs them.")
        if key in OWNED_KEYS:
            raise UserError(f"{where} sets {key}, which the comparison sets itself for every run. Remove it.")
        if key in _SAID_ELSEWHERE:
            raise UserError(f"{where} sets {key}: rows would not be what they are called. Use {_SAID_ELSEWHERE[key]}.")
    return opts


def check_some(values: Any, where: str) -> Sequence[Any]:
    """A list that is not empty."""
    if not isinstance(values, (list, tuple)) or not values:
        raise UserError(f"{where} must be a list with at least one entry, not {values!r}.")
    return values


def all_different(values: Iterable[Any], where: str) -> tuple[Any, ...]:
    """The values, each of which occurs once."""
    values = tuple(values)
    check_unique([str(value) for value in values], where)
    return values


def check_unique(names: Sequence[str], where: str) -> None:
    """Refuse, with UserError, a name that occurs twice."""
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{where} has {name} twice; every entry needs a name of its own.")


def read_mapping(item: Any, known: Sequence[str], where: str) -> dict[str, Any]:
    """A mapping with known keys alone."""
    if not isinstance(item, Mapping):
        raise UserError(f"{where}: expected a mapping, not {item!r}.")
    for key in item:
        if key not in known:
            raise UserError(f"{where}: unknown key {key}.{nearest(str(key), known)}")
    return dict(item)


def read_name(value: Any, where: str) -> str:
    """A name that folders and tables can bear."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise UserError(f"{where}: {value!r} is no usable NAME (letters, digits and _ . + - only).")
    return value


def read_flag(values: Mapping[str, Any], key: str, where: str) -> bool:
    """True or False; True where the key is absent."""
    value = values.get(key, True)
    if not isinstance(value, bool):
        raise UserError(f"{where} {key} must be True or False, not {value!r}.")
    return value
