"""Where a file comes from: versions, commit, device, configuration and seed, as plain JSON-able values."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import clop_det
from clop_det import detectron2_provider

_ROOT = Path(clop_det.__file__).resolve().parents[1]


def collect_provenance(cfg: Any = None) -> dict[str, Any]:
    """Everything needed to name the code and the settings that made a file.

    Args:
        cfg: the run's `CfgNode`; without it no configuration hash, seed or device is given.

    Returns:
        flat dict of str, int, bool and None.
    """
    record: dict[str, Any] = {
        "clop_det": clop_det.__version__,
        "commit": _first_state()[0],
        "commit_dirty": _first_state()[1],
        "torch": str(torch.__version__),
        "torchvision": _version("torchvision"),
        "detectron2": _detectron2(),
        "python": platform.python_version(),
    }
    if cfg is not None:
        record["config_sha256"] = hashlib.sha256(cfg.dump().encode("utf-8")).hexdigest()
        record["seed"] = int(cfg.SEED)
        record["device"] = device_name(str(cfg.MODEL.DEVICE))
    return record


def device_name(device: str) -> str:
    """`cpu (x86_64)` or `cuda (NVIDIA H100 80GB HBM3)`: the kind asked for, and the hardware behind it."""
    if device.startswith("cuda") and torch.cuda.is_available():
        return f"cuda ({torch.cuda.get_device_name(torch.device(device))})"
    return f"{device} ({platform.machine()})"


def git_state() -> tuple[str | None, bool | None]:
    """Commit of the checkout that the package is imported from, and whether its files differ from it; None outside one.

    Untracked files that git does not ignore count as differences: they may be imported.
    """
    # An installed package may lie inside some other repository, whose commit says nothing about it.
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != _ROOT:
        return None, None
    commit = _git("rev-parse", "HEAD")
    changes = None if commit is None else _git("status", "--porcelain")
    return commit, None if changes is None else changes != ""


# What a process says of itself is what it was started from.
_first_state = functools.lru_cache(maxsize=1)(git_state)


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _detectron2() -> str | None:
    try:
        return detectron2_provider.describe()
    except ImportError:
        return None
