"""Tensors beside a backbone that someone knows to be superfluous: `--drop`."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from torch import Tensor

from clop_det.backbones.parts import Root
from clop_det.errors import UserError


def drop_by_hand(
    unexplained: list[str], patterns: Sequence[str], dropped: dict[str, list[str]], state: dict[str, Tensor], root: Root
) -> list[str]:
    """What `--drop` does not explain; what it does is added to `dropped`.

    Raises:
        UserError: a pattern names a tensor of the backbone, or none at all.
    """
    own = [name for name, inner in root.names.items() if inner in state]
    for pattern in patterns:
        mapped = [name for name in own if is_meant(name, pattern)]
        if mapped:
            raise UserError(
                f"--drop {pattern!r} names {len(mapped)} tensors of the backbone itself ({mapped[0]}); it takes tensors"
                " beside it only."
            )
        meant = [name for name in unexplained if is_meant(name, pattern)]
        already = any(is_meant(name, pattern) for names in dropped.values() for name in names)
        if not meant and not already:
            raise UserError(f"--drop {pattern!r} names no tensor of the file; leave it out, or correct it.")
        if meant:
            dropped[f"left out by --drop {pattern}"] = meant
            unexplained = [name for name in unexplained if name not in meant]
    return unexplained


def is_meant(name: str, pattern: str) -> bool:
    """Whether a pattern of `--drop` means the tensor `name`: it matches it, or is the beginning of it up to a dot."""
    return fnmatch.fnmatchcase(name, pattern) or name.startswith(pattern.rstrip(".") + ".")


def way_on(unexplained: list[str], root: Root) -> str:
    """What to do about tensors beside the backbone; those inside it make another network of it."""
    if any(name in root.names for name in unexplained):
        return ""
    first = dict.fromkeys(name.rsplit(".", 1)[0] for name in unexplained)
    options = " ".join(f"--drop {name!r}" for name in list(first)[:3])
    return f" If you know that they are no part of the backbone, leave them out: {options}"
