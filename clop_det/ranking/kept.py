"""What was measured of a checkpoint, kept in a file for as long as checkpoint, data and seed are what they were."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save as tensors_to_bytes

from clop_det.errors import UserError
from clop_det.files import read_json, write_json
from clop_det.ranking.measuring import Measured
from clop_det.ranking.objects import Objects

_FORM = 2  # of the figures and of the file


def digest_of(objects: Objects) -> str:
    """SHA-256 of all that a checkpoint is shown."""
    tensors = {"crops": objects.crops, "windows": objects.windows, "places": objects.places, "labels": objects.labels}
    return hashlib.sha256(tensors_to_bytes(tensors)).hexdigest()


def key_of(source: str, objects: str, seed: int) -> dict[str, Any]:
    """What the figures depend on: digests of the checkpoint and of the objects, and the seed."""
    return {"form": _FORM, "source": source, "objects": objects, "seed": seed}


def kept(path: Path, key: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was kept for this very key; None: nothing, or of another file, data set or seed."""
    try:
        content = read_json(path) if path.is_file() else None
    except UserError:
        return None
    return content if isinstance(content, dict) and content.get("key") == dict(key) else None


def keep(path: Path, key: Mapping[str, Any], found: Measured, arch: str, seconds: float) -> dict[str, Any]:
    """Write the figures of a checkpoint; returns what was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"key": dict(key), "arch": arch, "seconds": seconds, "figures": found.figures, "halves": found.halves}
    write_json(path, content)
    return content


def measured_in(content: Mapping[str, Any]) -> Measured:
    """The figures in what `keep` wrote."""
    halves = {name: [(float(a), float(b)) for a, b in pairs] for name, pairs in content["halves"].items()}
    return Measured({name: float(value) for name, value in content["figures"].items()}, halves)
