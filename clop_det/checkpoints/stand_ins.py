"""Harmless objects beside the weights of a torch file: stand-ins take their place, and nothing of theirs is built.

A training script saves what it has: a path, a NumPy number, a configuration. torch's own restricted unpickler refuses a
file for one such name. It is given an inert class for each name instead, so it still runs nothing that a file names.
"""

from __future__ import annotations

import argparse
import pickle
import pickletools
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clop_det.checkpoints.array_pickle import NUMPY_STAND_INS, build
from clop_det.checkpoints.limits import is_zip

_PICKLES_OF_LEGACY = 4  # magic number, protocol, system, content; the storages follow
# A file that names a way to run something is an attack, though its stand-in would do nothing; it is refused.
_PROGRAMS = frozenset(
    {"os", "posix", "nt", "sys", "subprocess", "importlib", "runpy", "shutil", "socket", "pickle", "_pickle", "marshal"}
    | {"ctypes", "code", "pty", "pip", "asyncio", "multiprocessing", "threading", "webbrowser", "http", "urllib"}
    | {"requests", "operator", "bdb", "pdb", "timeit"}
)
_BUILTIN_PROGRAMS = frozenset(
    {"eval", "exec", "compile", "open", "input", "breakpoint", "getattr", "setattr", "delattr", "__import__"}
)
_OF_THE_READER = frozenset({"argparse.Namespace", "collections.OrderedDict", "collections.Counter"})
# Of torch only what no tensor is made with; whatever makes tensors is torch's to judge.
_OF_TORCH = ("torch.nn.", "torch.optim.", "torch.utils.", "torch.torch_version", "torch.distributed.fsdp.")


class _LikeDict(type):
    """Of classes that compare equal to `dict`: torch's unpickler sets items of nothing else."""

    __hash__ = type.__hash__

    def __eq__(cls, other: object) -> bool:
        return cls is other or other is dict


class Inert(list[Any], metaclass=_LikeDict):  # torch's unpickler appends to nothing else
    """Stands for one object of a class that is neither imported nor built; a subclass for each class, each file.

    Of a subclass of `dict` it keeps the items, as pairs: there may be tensors among them. `settle` makes a dictionary.
    """

    named = ""

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __setstate__(self, state: Any) -> None:
        """Leaves the state out."""

    def append(self, _: Any) -> None:
        """Leaves the item out."""

    def extend(self, _: Any) -> None:
        """Leaves the items out."""

    def __setitem__(self, key: Any, value: Any) -> None:
        super().append((key, value))


def stand_ins_for(path: Path) -> list[tuple[Any, str]]:
    """(stand-in, full name) for each name in a torch file that may have one; for `torch.serialization.safe_globals`.

    Raises:
        pickle.UnpicklingError: the file names a way to run something.
    """
    found: list[tuple[Any, str]] = []
    for module, name in sorted(_names_in(path)):
        root, full = module.split(".")[0], f"{module}.{name}"
        if root in _PROGRAMS or (root == "builtins" and name in _BUILTIN_PROGRAMS):
            raise pickle.UnpicklingError(f"GLOBAL {full}")
        if (module, name) in NUMPY_STAND_INS:
            found.append((NUMPY_STAND_INS[module, name], full))
        elif full == "collections.defaultdict":
            found.append((_plain_dictionary, full))
        elif full in _OF_THE_READER:
            continue
        elif root != "torch" or full.startswith(_OF_TORCH):
            # torch names a class by its module and name where it refuses one.
            names = {"named": full, "__module__": module, "__qualname__": name}
            found.append((type(name, (Inert,), names), full))
    # The unpickler gives a state only to objects of classes that it was given.
    array = ("clop_det", "_Array")
    return [*found, (NUMPY_STAND_INS[array], ".".join(array))] if found else []


def settle(value: Any, done: dict[int, Any] | None = None) -> Any:
    """The same content with arrays and numbers in the place of NumPy's stand-ins; other stand-ins stay."""
    done = {} if done is None else done
    if id(value) in done:
        return done[id(value)]
    result = value
    if isinstance(value, Inert) and value:
        result = {}
        result.update((settle(key, done), settle(item, done)) for key, item in value if not isinstance(key, Inert))
    elif isinstance(value, Inert | type):
        pass
    elif isinstance(value, dict):
        result = OrderedDict() if isinstance(value, OrderedDict) else {}
        items = [(settle(key, done), item) for key, item in dict.items(value) if not isinstance(key, Inert)]
        result.update((key, settle(item, done)) for key, item in items)
    elif isinstance(value, argparse.Namespace):
        vars(value).update(settle(vars(value), done))
    elif type(value) in (list, tuple):
        result = type(value)(settle(item, done) for item in value)
    elif hasattr(value, "build"):
        try:
            result = build(value)
        except (pickle.UnpicklingError, ValueError, TypeError):
            result = type("Inert", (Inert,), {"named": "numpy.ndarray of objects"})()
    done[id(value)] = result
    return result


def inert_in(content: Any) -> list[str]:
    """Names of the classes whose objects were left out, each once, in order."""
    names: dict[str, None] = {}
    left, seen = [content], set()
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Inert):
            names[value.named] = None
        elif isinstance(value, Mapping):
            left.extend(reversed(list(value.values())))
        elif isinstance(value, list | tuple):
            left.extend(reversed(value))
        elif isinstance(value, argparse.Namespace):
            left.extend(vars(value).values())
    return list(names)


def _plain_dictionary(*_: Any) -> dict[Any, Any]:
    return {}


def _names_in(path: Path) -> set[tuple[str, str]]:
    """(module, name) of what a torch file asks for. What is overlooked here gets no stand-in, so torch refuses it."""
    names: set[tuple[str, str]] = set()
    if is_zip(path):
        with zipfile.ZipFile(path) as archive:
            for part in archive.namelist():
                if part.endswith("data.pkl"):
                    names |= _names_of(pickletools.genops(archive.read(part)))
        return names
    with open(path, "rb") as file:
        for _ in range(_PICKLES_OF_LEGACY):
            names |= _names_of(pickletools.genops(file))
    return names


def _names_of(operations: Any) -> set[tuple[str, str]]:
    found = [str(argument).partition(" ") for opcode, argument, _ in operations if opcode.name == "GLOBAL"]
    return {_of_python3(module, name) for module, _, name in found}


def _of_python3(module: str, name: str) -> tuple[str, str]:
    """The name as torch looks it up: protocol 2 writes Python 2's."""
    return NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
