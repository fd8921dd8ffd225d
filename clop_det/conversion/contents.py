"""A checkpoint's content as one flat dictionary of tensors, whatever it was nested and wrapped in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clop_det.errors import UserError

# Name parts that DistributedDataParallel, DataParallel, torch.compile and FSDP put in; no part of the network.
WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_fpw_module", "_checkpoint_wrapped_module"})
_MAX_NESTING = 12
_NUMERIC = "biuf"  # NumPy's kinds of booleans, integers and floats; text and objects are no weights


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
        tensors: path of keys joined by dots, without wrappers -> tensor.
        keys: the keys of the outermost dictionary, in order.
        wrappers: wrapper parts that were removed from the names.
        provenance: the file's own provenance, {} without one.
    """

    tensors: dict[str, Tensor]
    keys: tuple[str, ...]
    wrappers: tuple[str, ...]
    provenance: dict[str, Any]


def flatten(content: Any, path: Path) -> Contents:
    """Collect every tensor of a checkpoint.

    Args:
        content: what was read from the file.
        path: the file, for messages.

    Raises:
        UserError: not a dictionary, no tensor in it, or two tensors whose names differ only in wrappers.
    """
    if isinstance(content, nn.Module):  # only after free unpickling
        content = content.state_dict()
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a checkpoint (a dictionary of tensors).")
    tensors: dict[str, Tensor] = {}
    wrappers: set[str] = set()
    for parts, tensor in _leaves(content, ()):
        wrappers.update(part for part in parts if part in WRAPPERS)
        name = ".".join(part for part in parts if part not in WRAPPERS)
        if name in tensors:
            raise UserError(f"{path}: two tensors are called {name} once wrappers such as 'module.' are taken off.")
        tensors[name] = tensor
    if not tensors:
        held = ", ".join(map(str, list(content)[:8])) or "nothing"
        raise UserError(
            f"{path} holds no tensors (its keys: {held}); it is an empty state dict. Save the weights again."
        )
    provenance = content.get("provenance")
    return Contents(
        tensors,
        tuple(str(key) for key in content),
        tuple(sorted(wrappers)),
        dict(provenance) if isinstance(provenance, Mapping) else {},
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
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _leaves(item, (*parts, str(index)))
