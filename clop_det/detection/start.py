"""What a fine-tuning starts from beside its backbone: which tensors came from the weights, which were drawn, and how.

Runs that are compared must draw the same numbers where they draw; the record in the run folder lets a report check it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from detectron2.utils import comm
from torch import Tensor, nn

from clop_det.backbones.registry import families
from clop_det.files import write_json

START_NAME = "start.json"
_FORMAT = "clop_det start 1"


def keep_start(model: nn.Module, absent: Collection[str] | None, folder: str) -> None:
    """Write the record of a run that begins; the main process alone.

    Args:
        model: the detector before its first step.
        absent: names of the tensors that its weights did not give; None: there were no weights.
        folder: of the run.
    """
    if comm.is_main_process():
        write_json(Path(folder) / START_NAME, {"format": _FORMAT, **heads_of(model, absent)})


def heads_of(model: nn.Module, absent: Collection[str] | None) -> dict[str, Any]:
    """{"drawn": {name: SHA-256}, "loaded": [names]} of all tensors outside the backbone."""
    heads = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not name.endswith(".num_batches_tracked") and not any(family.part(name) for family in families())
    }
    drawn = {name: _digest(tensor) for name, tensor in heads.items() if absent is None or name in absent}
    return {"drawn": drawn, "loaded": sorted(set(heads) - set(drawn))}


def _digest(tensor: Tensor) -> str:
    values = tensor.detach().cpu().contiguous()
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()
