"""MODEL.DEVICE: whether this machine has it, and how data get there."""

from __future__ import annotations

import torch
from torch import Tensor

from clop_det.errors import UserError


def check_device(name: str) -> None:
    """Refuse a MODEL.DEVICE that is not here; UserError."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    try:
        device = torch.device(name)
        found = device.type != "cuda" or (device.index or 0) < gpus
        if device.type != "cuda":  # a GPU is not woken up: this process would keep some of its memory
            torch.empty(0, device=device)
    except (AssertionError, RuntimeError):
        found = False
    if not found:
        raise UserError(
            f"MODEL.DEVICE is {name!r}, which torch does not find on this machine ({gpus} GPUs). Set MODEL.DEVICE cpu,"
            " or cuda where there is a GPU and a torch that is built for it."
        )


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor`, which lies on the host, on `device`; the host does not wait for the copy to a GPU.

    Copies from ordinary memory are made at once, after everything that the device has in its queue. Those from
    page-locked memory queue up themselves; torch keeps the memory until they are done, and uses it again.
    """
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
