"""MODEL.DEVICE: whether this machine has it and can compute on it, how it computes, and how data get there."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from detectron2.config import CfgNode
from torch import Tensor

from clop_det.errors import UserError

_log = logging.getLogger(__name__)
INSTALL = "Install another build: make setup TORCH_INDEX=https://download.pytorch.org/whl/cu126, or see pytorch.org."


def check_device(name: str, several: bool = False) -> None:
    """Refuse a MODEL.DEVICE that is not here, or one card for several processes; UserError."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    try:
        device = torch.device(name)
        found = device.type != "cuda" or (device.index or 0) < gpus
        if device.type != "cuda":  # a GPU is not woken up: this process would keep some of its memory
            torch.empty(0, device=device)
    except (AssertionError, RuntimeError):
        found = False
    if not found:
        unused = unused_gpus(name)
        raise UserError(
            f"MODEL.DEVICE is {name!r}, which torch does not find on this machine ({gpus} GPUs). Set MODEL.DEVICE cpu,"
            f" or cuda where there is a GPU and a torch that is built for it.{f' {unused}' if unused else ''}"
        )
    if several and device.index is not None:
        raise UserError(
            f"MODEL.DEVICE is {name!r}, one card, but there are several processes, and each takes the card of its own"
            " number. Set MODEL.DEVICE cuda; CUDA_VISIBLE_DEVICES chooses among the cards."
        )


def check_kernels(name: str) -> None:
    """Refuse a GPU that this build of torch has no kernels for, before the first of them fails; wakes the GPU.

    Raises:
        UserError: names the card, its compute capability, what torch is built for, and a remedy.
    """
    device = torch.device(name)
    if device.type != "cuda":
        return
    capability, built = torch.cuda.get_device_capability(device), torch.cuda.get_arch_list()
    if built and not runs_on(capability, built):
        raise UserError(
            f"MODEL.DEVICE {name} is {torch.cuda.get_device_name(device)} of compute capability"
            f" {capability[0]}.{capability[1]}, but torch {torch.__version__} has kernels for {', '.join(built)} alone."
            f" {INSTALL}"
        )


def runs_on(capability: tuple[int, int], built: Sequence[str]) -> bool:
    """Whether kernels for one of the architectures `built` ("sm_80", "sm_90a", "compute_90") run on a card.

    A kernel for sm_XY runs on cards of the same X and at least that Y, one with a letter on XY alone; compute_XY is
    code that the driver compiles for any later card.
    """
    for name in built:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)([a-z]?)", name)
        if match is None:
            continue
        kind, major, minor, exact = match[1], int(match[2]), int(match[3]), match[4]
        if exact:
            fits = capability == (major, minor)
        else:
            fits = capability >= (major, minor) and (kind == "compute" or capability[0] == major)
        if fits:
            return True
    return False


def unused_gpus(name: str) -> str:
    """A sentence on the GPUs of this machine that a run on the device `name` leaves unused, with a remedy; or ""."""
    if name.startswith("cuda") and torch.cuda.is_available():
        return ""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} GPUs are here and unused: MODEL.DEVICE is {name}; cuda takes them."
    cards = _listed_by_driver()
    if not cards or os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1"):
        return ""
    return (
        f"The driver lists a GPU ({cards[0]}) that torch {torch.__version__} cannot use: {_why_not_available()}."
        f" {INSTALL}"
    )


def _listed_by_driver() -> list[str]:
    """What `nvidia-smi` says of each card: its name, its driver's version; nothing where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    asked = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [f"{card}, driver {driver}" for card, _, driver in (x.partition(", ") for x in found.stdout.splitlines())]


def _why_not_available() -> str:
    if torch.version.cuda is None:
        return "it is built without CUDA"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (AssertionError, RuntimeError) as error:
        return str(error).split(". ")[0].rstrip(".")
    return "it finds none"


def set_up_device(cfg: CfgNode) -> None:
    """Make the device compute as SOLVER.TF32 and DETERMINISTIC say, for this process, and log what it is.

    Call it before the first kernel. A CPU computes in IEEE fp32 and in a fixed order whatever they say.

    Raises:
        UserError: see `check_kernels`.
    """
    on_gpu = cfg.MODEL.DEVICE.startswith("cuda")
    if unused := unused_gpus(cfg.MODEL.DEVICE):
        _log.warning("%s", unused)
    if not on_gpu:
        return
    check_kernels(cfg.MODEL.DEVICE)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = bool(cfg.SOLVER.TF32)
    torch.backends.cudnn.deterministic = bool(cfg.DETERMINISTIC)
    if cfg.DETERMINISTIC:  # cuBLAS reads it when it is first used
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # A kernel that torch has in no fixed order is a warning that names it, not the end of the run.
    torch.use_deterministic_algorithms(bool(cfg.DETERMINISTIC), warn_only=True)
    _log.info(
        "%s, torch %s; TF32 %s (SOLVER.TF32); %s (DETERMINISTIC)",
        *(torch.cuda.get_device_name(torch.device(cfg.MODEL.DEVICE)), torch.__version__),
        *("on" if cfg.SOLVER.TF32 else "off", "fixed order" if cfg.DETERMINISTIC else "sums in any order"),
    )


def host_buffer(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory of the host, not initialised, for what then moves to `device`: page-locked for a GPU, and used again."""
    return torch.empty(tuple(shape), dtype=dtype, pin_memory=device.type == "cuda")


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor`, which lies on the host or on `device`, on `device`; the host does not wait for the copy to a GPU.

    Copies from ordinary memory are made at once, after everything that the device has in its queue. Those from
    page-locked memory queue up themselves; torch keeps the memory until they are done, and uses it again.
    """
    if tensor.device.type != "cpu" or device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class SideQueue:
    """On a GPU a stream beside the one that computes, for copies that another thread asks for; elsewhere nothing.

    That thread works inside `entered` and ends with `mark`; the one that computes then calls `join`.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def entered(self) -> AbstractContextManager[object]:
        """Within, what the calling thread puts into the GPU's queue goes into this one."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def mark(self) -> torch.cuda.Event | None:
        """The place in this queue where it stands now."""
        return None if self._stream is None else self._stream.record_event()

    def join(self, mark: torch.cuda.Event | None, tensors: Iterable[Tensor]) -> None:
        """Let the calling thread's stream wait until this one has come to `mark`, then use `tensors`."""
        if self._stream is None or mark is None:
            return
        stream = torch.cuda.current_stream(self._stream.device)
        stream.wait_event(mark)
        for tensor in tensors:
            tensor.record_stream(stream)
