"""Reading a config: defaults, YAML files, KEY VALUE pairs; what they import comes first. One reader for all tools."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode, get_cfg

from clop_det.config.build import add_clop_config
from clop_det.config.changed import change_of
from clop_det.config.files import RUN_FILES, ConfigFile, OfBase, flatten, read_file, read_pairs, value_from
from clop_det.config.imports import KEY as IMPORTS
from clop_det.config.imports import Import, bring_in, resolved
from clop_det.config.library import find_config
from clop_det.errors import UserError
from clop_det.keys import value_of

COMMAND_LINE = "the command line"
Defaults = Callable[[Sequence[str]], CfgNode]  # entries of IMPORTS -> a config with every default


def read_config(config_file: str, overrides: Sequence[str], *, allow_imports: bool = True) -> CfgNode:
    """Detectron2's defaults, then clop_det's, then the YAML file (with its `_BASE_` chain), then KEY VALUE pairs.

    Args:
        config_file: a YAML file, or the name of a shipped config (`find_config`); "": none.
        overrides: ["KEY", "VALUE", ...].
        allow_imports: whether the modules that the file's IMPORTS names are imported, which runs their code; those that
            the overrides name always are.

    Returns:
        The frozen config; its IMPORTS holds dotted names and absolute paths.

    Raises:
        UserError: a file that does not exist or is not safe YAML, an unknown key, a value of another type, an odd
            number of overrides, an option (--resume) among them; IMPORTS that cannot be imported or are not allowed.
    """
    cfg = read_with(run_defaults, config_file, overrides, allow_imports=allow_imports)
    cfg.freeze()
    return cfg


def read_with(
    defaults: Defaults,
    config_file: str,
    overrides: Sequence[str],
    *,
    allow_imports: bool = True,
    base: OfBase | None = None,
) -> CfgNode:
    """As `read_config` over other defaults, e.g. those of a comparison; not frozen. `base`: see `read_file`."""
    file = read_file(find_config(config_file), base=base) if config_file else ConfigFile({}, (), ())
    if file.imports and not allow_imports:
        named = ", ".join(item.entry for item in file.imports)
        raise UserError(
            f"{file.imports[0].origin} names {named}; they are not imported, because importing runs their code and this"
            " command only reads the folder. If you trust it, add --allow-imports."
        )
    imports, pairs = list(file.imports), []
    for key, text in read_pairs(overrides):
        if key == IMPORTS:
            imports += resolved(value_from(text), Path(), f"{IMPORTS} of {COMMAND_LINE}")
        else:
            pairs.append((key, text))
    cfg = assemble(defaults, file, imports)
    for key, text in pairs:
        merge_mapping(cfg, {key: value_from(text, value_of(cfg, key, None))}, COMMAND_LINE)
    return cfg


def assemble(defaults: Defaults, file: ConfigFile, imports: Sequence[Import]) -> CfgNode:
    """Import, then merge a file into the defaults; not frozen. See `read_config` for the errors."""
    entries = bring_in(imports)
    cfg = defaults(entries)
    merge_mapping(cfg, file.values, str(file.files[-1]) if file.files else "")
    cfg[IMPORTS] = entries
    return cfg


def run_defaults(entries: Sequence[str] = ()) -> CfgNode:
    """The config of a run before any file is read."""
    cfg = get_cfg()
    add_clop_config(cfg, entries)
    return cfg


def merge_mapping(cfg: CfgNode, values: Mapping[str, Any], where: str, prefix: str = "", root: Any = None) -> None:
    """Merge a mapping, nested or with dotted keys, into `cfg`, in place; `where` names its origin in errors."""
    root = cfg if root is None else root
    for key, value in values.items():
        head, _, rest = str(key).partition(".")
        name, value = f"{prefix}{head}", {rest: value} if rest else value
        if head not in cfg:
            raise UserError(_unknown(f"{prefix}{key}", root, where))
        old = cfg[head]
        if isinstance(old, CfgNode):
            if not isinstance(value, Mapping):
                raise UserError(f"{name} in {where} is a group of keys, not a value ({value!r}).")
            merge_mapping(old, value, where, f"{name}.", root)
        elif isinstance(old, dict) and isinstance(value, Mapping):  # an open group: it takes any keys, kept dotted
            cfg[head] = {**old, **dict(flatten(value))}
        elif rest:
            raise UserError(_unknown(f"{prefix}{key}", root, where))
        else:
            cfg[head] = _coerce(value, old, name, where)


def _unknown(name: str, root: CfgNode, where: str) -> str:
    """The error for a key that is not known: what became of it, or the nearest known one."""
    changed = change_of(name)
    if changed:
        return f"config key {name} in {where} {changed}"
    known = [key for key, _ in flatten(root)]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    # A right key in the wrong group: compare the last parts too.
    close = close or [key for key in known if key.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]][:1]
    hint = f"Did you mean {close[0]}?" if close else "See docs/reference/config.md and Detectron2's config reference."
    if Path(where).name in RUN_FILES:
        hint += " The file is a run's: it may come from another version, or need a module that its IMPORTS lacks."
    return f"unknown config key {name} in {where}. {hint}"


def _coerce(value: Any, old: Any, name: str, where: str) -> Any:
    """The value in the type of the default: whole numbers and "1e-4" (a YAML string) are floats, lists are tuples.

    A sequence may also be a string in Python's notation, `STEPS: (18000, 22000)`, as Detectron2's configs write it.
    """
    kind = type(old)
    if old is None or type(value) is kind:
        return value
    if value is None:
        raise UserError(f"{name} in {where} has no value; it must be of type {kind.__name__}.")
    if kind is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    if kind in (list, tuple):
        if isinstance(value, str):
            value = value_from(value)
        if isinstance(value, list | tuple):
            return kind(value)
    quotes = " Put it in quotes." if kind is str and isinstance(value, bool | int | float) else ""
    raise UserError(
        f"{name} in {where} is {value!r} ({type(value).__name__}); it must be of type {kind.__name__}.{quotes}"
    )
