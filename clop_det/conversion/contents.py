"""A checkpoint's content as one flat dictionary of tensors, whatever it was nested and wrapped in."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clop_det.checkpoints.stand_ins import Inert, inert_in
from clop_det.errors import UserError

# Name parts that DistributedDataParallel, DataParallel, torch.compile and FSDP put in; no part of the network.
WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_fpw_module", "_checkpoint_wrapped_module"})
_MAX_NESTING = 12
_FLOAT8 = frozenset(dtype for name, dtype in vars(torch).items() if name.startswith("float8_"))  # torch computes none
_NUMERIC = "biuf"  # NumPy's kinds of booleans, integers and floats; text and objects are no weights


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
        tensors: path of keys joined by dots, without wrappers -> tensor.
        keys: the keys of the outermost dictionary, in order.
        wrappers: wrapper parts that were removed from the names.
        provenance: the file's own provenance, {} without one.
        facts: text, numbers and lists of numbers beside the tensors, e.g. `args.model`; keys joined by dots.
        notes: what a person should know of how it was read.
    """

    tensors: dict[str, Tensor]
    keys: tuple[str, ...]
    wrappers: tuple[str, ...]
    provenance: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def flatten(content: Any, path: Path) -> Contents:
    """Collect every tensor of a checkpoint.

    Args:
        content: what was read from the file.
        path: the file, for messages.

    Raises:
        UserError: not a dictionary, no tensor in it, or two tensors whose names differ only in wrappers.
    """
    left_out = inert_in(content)
    if isinstance(content, Inert):
        raise UserError(f"{path} holds {_whole_model(left_out)}")
    if isinstance(content, nn.Module):  # only after free unpickling
        content = content.state_dict()
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a checkpoint (a dictionary of tensors).")
    tensors: dict[str, Tensor] = {}
    wrappers: set[str] = set()
    widened = 0
    for parts, tensor in _leaves(content, ()):
        wrappers.update(part for part in parts if part in WRAPPERS)
        name = ".".join(part for part in parts if part not in WRAPPERS)
        if name in tensors:
            raise UserError(f"{path}: two tensors are called {name} once wrappers such as 'module.' are taken off.")
        widened += tensor.dtype in _FLOAT8
        tensors[name] = tensor.float() if tensor.dtype in _FLOAT8 else tensor
    if not tensors and left_out:
        raise UserError(f"{path} holds no tensors beside {_whole_model(left_out)}")
    if not tensors:
        held = ", ".join(map(str, list(content)[:8])) or "nothing"
        raise UserError(
            f"{path} holds no tensors (its keys: {held}); it is an empty state dict. Save the weights again."
        )
    provenance = content.get("provenance")
    notes = []
    if left_out:
        shown = ", ".join(left_out[:4]) + (", ..." if len(left_out) > 4 else "")
        notes.append(f"objects beside the tensors were left out, and nothing of theirs was run: {shown}")
    if widened:
        notes.append(f"{widened} tensors of float8 were widened to float32, which holds the same values")
    return Contents(
        tensors,
        tuple(str(key) for key in content),
        tuple(sorted(wrappers)),
        dict(provenance) if isinstance(provenance, Mapping) else {},
        dict(_facts(content, ())),
        tuple(notes),
    )


def _whole_model(classes: list[str]) -> str:
    return (
        f"a whole pickled model ({classes[0]}). Nothing in it was run. Save its weights alone where its code is:"
        " torch.save(model.state_dict(), ...); or, if you trust its author as you would a program, convert it once"
        " with --trust-pickle."
    )


def check_finite(state: Mapping[str, Tensor]) -> None:
    """Raise if a tensor holds NaN or infinity.

    Raises:
        UserError: the tensors' names.
    """
    bad = [name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise UserError(f"{len(bad)} tensors hold NaN or infinity ({', '.join(bad[:3])}); the training had diverged.")


def _leaves(value: Any, parts: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    if isinstance(value, Tensor):
        yield parts, value
    elif isinstance(value, np.ndarray):
        if value.dtype.kind in _NUMERIC and value.itemsize <= 8:  # torch has no longer floats
            yield parts, torch.from_numpy(value.astype(value.dtype.newbyteorder("="), copy=False))
    elif isinstance(value, nn.Module):
        yield from _leaves(value.state_dict(), parts)
    elif len(parts) > _MAX_NESTING:
        return
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, (*parts, *str(key).split(".")))
    elif isinstance(value, list | tuple) and not isinstance(value, Inert):
        for index, item in enumerate(value):
            yield from _leaves(item, (*parts, str(index)))


def _facts(value: Any, parts: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, Mapping) and len(parts) <= _MAX_NESTING:
        for key, item in value.items():
            if parts or key != "provenance":  # that is read by its own rules
                yield from _facts(item, (*parts, str(key)))
    elif parts and (isinstance(value, str | bool | int | float) or _is_numbers(value)):
        yield ".".join(parts), value


def _is_numbers(value: Any) -> bool:
    short = isinstance(value, list | tuple) and not isinstance(value, Inert) and 0 < len(value) <= 8
    return short and all(isinstance(item, int | float) for item in value)
