"""The rest of a detector around its backbone: pyramid, proposals and heads, taken over as they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from clop_det.backbones.registry import BACKBONES
from clop_det.checkpoints.reading import read_checkpoint
from clop_det.conversion.contents import Contents, flatten
from clop_det.conversion.sources import find_roots
from clop_det.errors import UserError

# Where a detector keeps its backbone, at the end of the prefix of the backbone's names.
_INSIDE = re.compile(r"(?:^|(?<=\.))backbone\.(?:(?:bottom_up|net)\.)?$")


def heads_around(contents: Contents, prefix: str, family: str) -> dict[str, Tensor]:
    """The tensors of the detector that holds the backbone under `prefix`, but for those of the backbone.

    Returns:
        name in the detector -> tensor; empty where the file holds a backbone alone.
    """
    found = _INSIDE.search(prefix)
    if found is None:
        return {}
    outer, network = prefix[: found.start()], BACKBONES[family]
    inner = {name[len(outer) :]: tensor for name, tensor in contents.tensors.items() if name.startswith(outer)}
    return {name: tensor for name, tensor in inner.items() if not network.part(name) and tensor.is_floating_point()}


def check_has_heads(path: Path) -> None:
    """Refuse, with UserError, a file that holds no detector, but for example a backbone alone."""
    contents = flatten(read_checkpoint(path), path)
    prefixes: Sequence[tuple[str, str]] = [(root.prefix, root.family) for root in find_roots(contents.tensors)]
    if not any(heads_around(contents, *where) for where in prefixes):
        raise no_heads(path)


def no_heads(path: Path) -> UserError:
    """The error for a file without heads."""
    return UserError(
        f"{path} holds no detector in Detectron2's names, so there are no heads to keep. Give a detector's checkpoint,"
        " or draw the heads of all rows anew (COMPARE.HEADS redraw)."
    )
