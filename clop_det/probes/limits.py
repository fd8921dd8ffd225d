"""Whether the features of a bank and what the measures make of them fit into memory, told before they are computed."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from clop_det.errors import UserError

# What the measures hold at their peak, in numbers of 4 bytes: copies of the features, and of the linear probe's logits.
# Measured on a CPU: geometry 7.4 copies, RankMe 5.3, the linear probe 6.2 of the features and 6 of the logits.
_COPIES, _LOGITS = 8, 6
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def bank_bytes(count: int, dim: int, classes: int) -> int:
    """Bytes that the probes of a bank need at their peak, about.

    Args:
        count: N images.
        dim: D of their features.
        classes: K.
    """
    return 4 * count * (_COPIES * dim + _LOGITS * classes)


def check_bank(count: int, dim: int, classes: int, device: torch.device) -> None:
    """Refuse a bank whose features and working copies do not fit into the memory of `device`.

    Args:
        count, dim, classes: see `bank_bytes`.
        device: where the features lie.

    Raises:
        UserError: names the bytes and a limit that fits.
    """
    needed, there = bank_bytes(count, dim, classes), memory_of(device)
    if needed <= there:
        return
    where = "the GPU" if device.type == "cuda" else "this machine"
    fits = there // bank_bytes(1, dim, classes)
    raise UserError(
        f"the probes' bank holds {count} images: with {dim} features each and {classes} classes they need about"
        f" {needed / 1e9:.0f} GB at their peak, and {where} has {there / 1e9:.0f} GB. Set PROBE.MAX_BANK"
        f" {round_down(fits)}, which takes a seeded subset."
    )


def memory_of(device: torch.device) -> int:
    """Bytes of a GPU, or of this machine's memory as far as its container may use it."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(machine, int(_CGROUP.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return machine


def round_down(count: int) -> int:
    """`count` with two leading digits, at least 1: 123456 -> 120000."""
    unit: int = 10 ** max(0, len(str(count)) - 2)
    return max(1, count // unit * unit)
