"""Runs of tests: their command line, and what two of them have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

CONFIG = str(Path(__file__).resolve().parents[2] / "configs" / "detection" / "Base-R_18_FPN.yaml")


def command(options: list[str], folder: Path, *flags: str, **changes: Any) -> list[str]:
    extra = [str(word) for item in changes.items() for word in (item[0].replace("__", "."), item[1])]
    return ["--config-file", CONFIG, *flags, *options, *extra, "OUTPUT_DIR", str(folder)]


class Crash(Exception):
    pass


def same_weights(one: Path, other: Path) -> bool:
    a, b = (torch.load(f / "model_final.pth", weights_only=True)["model"] for f in (one, other))
    return all(torch.equal(a[key], b[key]) for key in a)
