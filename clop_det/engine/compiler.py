"""torch.compile needs a compiler of its own: a missing one is a clear error, not a page of the compiler's internals."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch._dynamo.exc import TorchDynamoException

from clop_det.errors import UserError

REMEDY = "Set SOLVER.COMPILE False to train without it, with the same results to rounding."


def check_compiler(device: torch.device) -> None:
    """Refuse SOLVER.COMPILE where the compiler that torch.compile calls is missing.

    On a CPU that is a C++ compiler ($CXX, else g++), on a GPU the triton package.

    Raises:
        UserError: names what is missing and how to get it.
    """
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise UserError(
            f"SOLVER.COMPILE is True, but torch.compile found no C++ compiler ({compiler}). Install one (Debian:"
            f" apt-get install g++) or name one by the CXX variable. {REMEDY}"
        )
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise UserError(
            "SOLVER.COMPILE is True, but torch.compile needs the triton package on a GPU and it is not installed"
            f" (pip install triton). {REMEDY}"
        )


@contextmanager
def compiler_errors_named() -> Iterator[None]:
    """Inside, what torch.compile raises while it compiles becomes one UserError."""
    try:
        yield
    except TorchDynamoException as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"torch.compile failed ({type(error).__name__}: {first}). {REMEDY}") from error
