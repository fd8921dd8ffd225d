"""Config files: safe YAML with a `_BASE_` chain, and the values that are written on a command line."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from clop_det.config.imports import KEY as IMPORTS
from clop_det.config.imports import Import, resolved
from clop_det.config.library import library
from clop_det.errors import UserError
from clop_det.files import check_ordinary

try:  # libyaml's, with which PyYAML's wheels are built: a tenth of the time
    from yaml import CSafeLoader as SafeLoader
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]

_BASE = "_BASE_"
OfBase = Callable[[dict[str, Any], Path], None]
_MOST_NODES, _MOST_DEEP = 100_000, 100  # of a config file
# Files that runs and comparisons write; a folder that holds one is a run folder.
RUN_FILES = ("config.yaml", "job.yaml")


class _Loader(SafeLoader):
    """The safe loader, with 1e-4 as a number: YAML 1.1 takes it for text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


@dataclass(frozen=True)
class ConfigFile:
    """What a YAML file says together with its bases.

    Attributes:
        values: nested, without `_BASE_` and IMPORTS.
        imports: the entries of IMPORTS, those of the bases first.
        files: the files that were read.
    """

    values: dict[str, Any]
    imports: tuple[Import, ...]
    files: tuple[Path, ...]

    @property
    def in_run_folder(self) -> bool:
        """Whether a run folder's file takes part: one that a program wrote, perhaps somebody else's."""
        return any((path.parent / name).exists() for path in self.files for name in RUN_FILES)


def read_file(config_file: str, _derived: tuple[Path, ...] = (), *, base: OfBase | None = None) -> ConfigFile:
    """Read a YAML file over its `_BASE_` (a path relative to the file, or a list, of which the later win).

    A base that does not lie there may be the name of a shipped config, e.g. "detection/Base-R_18_FPN.yaml".

    Args:
        config_file: the file.
        base: called with the own values of every file that serves as a base, nested, and its path; may change them.

    Raises:
        UserError: a file of the chain does not exist, is not text, not safe YAML or no mapping, or is its own base; an
            entry of IMPORTS that names nothing.
    """
    path = Path(config_file)
    if path.resolve() in _derived:
        raise UserError(f"{config_file} is its own _BASE_, over one or more files. Break the circle.")
    content = load_yaml(config_file)
    bases, entries = content.pop(_BASE, []), content.pop(IMPORTS, [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(named, str) for named in bases):
        raise UserError(f"_BASE_ in {config_file} is {bases!r}; it must be the path of a YAML file.")
    values: dict[str, Any] = {}
    imports: tuple[Import, ...] = ()
    files: tuple[Path, ...] = ()
    for named in bases:
        place = named if "://" in named else _base_of(path, named)
        below = read_file(place, (*_derived, path.resolve()), base=base)
        _merge(values, below.values)
        imports, files = imports + below.imports, files + below.files
    mine = nested(dict(flatten(content)))
    if base is not None and _derived:
        base(mine, path)
    _merge(values, mine)
    own = resolved(entries, path.parent, f"{IMPORTS} of {config_file}")
    return ConfigFile(values, (*imports, *own), (*files, path))


def _base_of(path: Path, base: str) -> str:
    """A `_BASE_` beside the file that names it; where there is none, not even a broken link, the shipped config."""
    beside, shipped = path.parent / Path(base).expanduser(), library() / base
    return str(shipped if not os.path.lexists(beside) and os.path.isfile(shipped) else beside)


def read_pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    """["KEY", "VALUE", ...] as pairs.

    Raises:
        UserError: an option (--resume) among them, an odd number of words.
    """
    misplaced = [word for word in words if word.startswith("--")]
    if misplaced:
        raise UserError(f"{' '.join(misplaced)} must come before the KEY VALUE pairs on the command line.")
    if len(words) % 2:
        raise UserError(f"overrides come as KEY VALUE pairs, got an odd number of words: {' '.join(words)}")
    return list(zip(words[::2], words[1::2], strict=True))


def value_from(text: str, default: Any = None) -> Any:
    """A value as written on a command line: YAML, or Python's notation where YAML finds only text, as "(1, 2)".

    Where the default is a string, the text stays one, whatever it looks like (007, on, 1e5); quotes around it fall.

    Raises:
        UserError: a list or mapping that is neither well-formed YAML nor Python, or one of more than any config holds.
    """
    try:
        value, fault = _parsed(text, "a value"), ""
    except UserError:
        raise
    except (yaml.YAMLError, ValueError) as error:
        value, fault = text, " ".join(str(error).split())
    if isinstance(default, str):
        return value if isinstance(value, str) and text[:1] in ("'", '"') else text
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        if fault and text.lstrip()[:1] in ("[", "{"):
            raise UserError(f"{text} is not well-formed YAML ({fault}). Put text with : ? & or # in quotes.") from None
        return value


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every (dotted key, value) of a nested mapping, depth first; {"A": {"B": 1}} and {"A.B": 1} both give "A.B", 1."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{"A.B": 1} becomes {"A": {"B": 1}}.

    Raises:
        UserError: a key and another one below it.
    """
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, leaf = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise UserError(f"{key} is set, and {parent} too, which is a group of keys and takes no value.")
        if isinstance(node.get(leaf), dict):
            raise UserError(f"{key} is a group of keys and takes no value ({value!r}), and keys in it are set, too.")
        node[leaf] = value
    return tree


def load_yaml(config_file: str | Path) -> dict[str, Any]:
    """The mapping in one YAML file of this machine, of a size that a config may have; `_BASE_` is not followed.

    Raises:
        UserError: it does not exist, is a URL or no ordinary file, not text, not safe YAML, no mapping, or too large.
    """
    if "://" in str(config_file):
        raise UserError(f"the config {config_file} is a URL. Download it, and name the file.")
    path = Path(config_file)
    try:
        check_ordinary(path)
        text = path.read_text(encoding="utf-8")
        content = _parsed(text, str(path))
    except UserError:
        raise
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error}. Save it as UTF-8.") from error
    except yaml.constructor.ConstructorError as error:
        why = " ".join(str(error).split())
        raise UserError(
            f"{path} is not safe, well-formed YAML: {why}. A !!python tag would run code; write what it computes as"
            " plain numbers, as detection/Base-RetinaNet_R_50_FPN.yaml does for Detectron2's RetinaNet (`clop-det"
            " config show` prints it)."
        ) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path} is not safe, well-formed YAML: {' '.join(str(error).split())}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the config {path}: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no mapping of config keys.")
    return content


def _parsed(text: str, name: str) -> Any:
    """What YAML says, of a depth that libyaml's recursion bears."""
    _check_size(text, name)
    return yaml.load(text, _Loader)


def _check_size(text: str, name: str) -> None:
    """Refuse nesting, and aliases whose aliases multiply (a "billion laughs"), by the parser's events alone."""
    anchors: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]  # anchor and size so far
    for event in yaml.parse(text, Loader=SafeLoader):
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


def _merge(into: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
