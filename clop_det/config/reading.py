"""Reading a config: safe YAML with `_BASE_`, KEY VALUE pairs, and errors that name the nearest known key."""

from __future__ import annotations

import ast
import difflib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode, get_cfg

from clop_det.config import add_clop_config
from clop_det.errors import UserError
from clop_det.files import check_ordinary

_MOST_NODES, _MOST_DEEP = 100_000, 100  # of a config file


def read_config(config_file: str, overrides: Sequence[str]) -> CfgNode:
    """Detectron2's defaults, then clop_det's, then the YAML file (with its `_BASE_` chain), then KEY VALUE pairs.

    Returns:
        The frozen config.

    Raises:
        UserError: a file that does not exist or is not safe YAML, an unknown key, a value of another type, an odd
            number of overrides, an option (--resume) among them.
    """
    cfg = get_cfg()
    add_clop_config(cfg)
    if config_file:
        merge_file(cfg, config_file)
    merge_pairs(cfg, overrides)
    cfg.freeze()
    return cfg


def merge_file(cfg: CfgNode, config_file: str) -> None:
    """Merge a YAML file and its `_BASE_` chain into `cfg`, in place; see `read_config` for the errors."""
    merge_mapping(cfg, load_yaml(config_file), where=config_file)


def load_yaml(config_file: str) -> dict[str, Any]:
    """The mapping in a YAML file, over those of its `_BASE_` chain, read with the safe loader.

    Raises:
        UserError: a file of the chain does not exist, is not text, not safe YAML or no mapping, or is its own base.
    """
    try:
        # fvcore's default is the safe loader; Detectron2's own merge_from_file is not.
        loaded = _LocalFiles.load_yaml_with_base(config_file, allow_unsafe=False)
    except UserError:
        raise
    except RecursionError:
        raise UserError(f"{config_file} is its own _BASE_, over one or more files. Break the circle.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{config_file}, or its _BASE_, is not UTF-8 text: {error}. Save it as UTF-8.") from error
    except yaml.YAMLError as error:
        raise UserError(f"{config_file} is not safe, well-formed YAML: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise UserError(f"cannot read the config {config_file}: {error}") from error
    except (AssertionError, TypeError, AttributeError, ValueError) as error:
        # What fvcore does with a file that is empty or holds no mapping, or a _BASE_ that is no path.
        text = " ".join(str(error).split())
        raise UserError(f"{config_file}, or its _BASE_, holds no mapping of config keys ({text}).") from error
    if not isinstance(loaded, dict):
        raise UserError(f"{config_file} holds no mapping of config keys.")
    return loaded


class _LocalFiles(CfgNode):
    """Opens what fvcore reads a config from: files of this machine, of a size that a config may have."""

    @classmethod
    def _open_cfg(cls, filename: str) -> io.StringIO:
        if "://" in filename:
            raise UserError(f"the config {filename} is a URL. Download it, and name the file.")
        check_ordinary(filename)
        text = Path(filename).read_text(encoding="utf-8")
        _check_size(text, filename)
        return io.StringIO(text)


def _check_size(text: str, name: str) -> None:
    """Refuse nesting, and aliases whose aliases multiply (a "billion laughs"), by the parser's events alone."""
    anchors: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]  # anchor and size so far
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, 1))
            if len(open_nodes) > _MOST_DEEP:
                raise UserError(f"{name} is nested more than {_MOST_DEEP} deep, which no config is.")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
        elif isinstance(event, yaml.AliasEvent):
            anchor, size = None, anchors.get(str(event.anchor), 0)
        elif isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor, 1
        else:
            continue
        if anchor:
            anchors[anchor] = size
        open_nodes[-1] = open_nodes[-1][0], open_nodes[-1][1] + size
        if open_nodes[-1][1] > _MOST_NODES:
            raise UserError(f"{name} holds more than {_MOST_NODES} values, aliases written out; no config does.")


def merge_pairs(cfg: CfgNode, overrides: Sequence[str]) -> None:
    """Merge `["KEY", "VALUE", ...]` into `cfg`, in place; see `read_config` for the errors."""
    misplaced = [word for word in overrides if word.startswith("--")]
    if misplaced:
        raise UserError(f"{' '.join(misplaced)} must come before the KEY VALUE pairs on the command line.")
    if len(overrides) % 2:
        raise UserError(f"overrides come as KEY VALUE pairs, got an odd number of words: {' '.join(overrides)}")
    for key, text in zip(overrides[::2], overrides[1::2], strict=True):
        value = _literal(text)
        nested: Any = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        merge_mapping(cfg, nested, where="the command line")


def merge_mapping(cfg: CfgNode, values: Mapping[str, Any], where: str, prefix: str = "", root: Any = None) -> None:
    """Merge a nested mapping into `cfg`, in place; `where` names its origin in errors."""
    root = cfg if root is None else root
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in cfg:
            raise UserError(f"unknown config key {name} in {where}.{_nearest(name, root)}")
        old = cfg[key]
        if isinstance(old, CfgNode):
            if not isinstance(value, Mapping):
                raise UserError(f"{name} in {where} is a group of keys, not a value ({value!r}).")
            merge_mapping(old, value, where, f"{name}.", root)
        else:
            cfg[key] = _coerce(value, old, name, where)


def flatten(cfg: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every (dotted key, value) of a config, depth first."""
    for key, value in cfg.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _literal(text: str) -> Any:
    """A value in Python's notation, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _nearest(name: str, root: CfgNode) -> str:
    known = [key for key, _ in flatten(root)]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    # A right key in the wrong group: compare the last parts too.
    close = close or [key for key in known if key.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]][:1]
    return f" Did you mean {close[0]}?" if close else " See docs/reference/config.md and Detectron2's config reference."


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
            value = _literal(value)
        if isinstance(value, list | tuple):
            return kind(value)
    raise UserError(f"{name} in {where} is {value!r} ({type(value).__name__}); it must be of type {kind.__name__}.")
