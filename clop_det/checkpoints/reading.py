"""Reading checkpoint files of every container format, without running anything that a file names."""

from __future__ import annotations

import argparse
import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from clop_det.checkpoints.array_pickle import read_array_pickle
from clop_det.checkpoints.integrity import check_integrity
from clop_det.checkpoints.limits import check_archive, check_content, is_zip
from clop_det.errors import UserError
from clop_det.files import StrPath, check_ordinary

# A bag of values that many training scripts save beside the weights; rebuilding one only sets its attributes.
_HARMLESS: list[Any] = [argparse.Namespace]


def read_checkpoint(path: StrPath, *, trust_pickle: bool = False, verify: bool = True) -> Any:
    """Content of a `.pth`-like file, a pickle of arrays or a safetensors file, told apart by content.

    Args:
        path: the file.
        trust_pickle: unpickle freely, that is: let the file run any program. Only for files whose author you trust.
        verify: check the SHA-256 sidecar or the checksums inside the file first.

    Raises:
        UserError: missing, empty, damaged, or in need of free unpickling.
    """
    path = Path(path)
    container = container_of(path)
    if verify:
        check_integrity(path)
    if container == "safetensors":
        return _read_safetensors(path)
    if container == "pickle" and not trust_pickle:
        return read_array_pickle(path)
    return _read_torch(path, trust_pickle)


def read_provenance(path: StrPath) -> dict[str, Any]:
    """The provenance stored in a file, {} without one.

    Raises:
        UserError: see `read_checkpoint`; the file's integrity is not checked here.
    """
    path = Path(path)
    if container_of(path) == "safetensors":
        found = _safetensors_provenance(path)
    elif is_zip(path):
        content = _read_torch(path, trust_pickle=False, mmap=True)
        found = content.get("provenance") if isinstance(content, dict) else None
    else:
        content = read_checkpoint(path, verify=False)
        found = content.get("provenance") if isinstance(content, dict) else None
    return found if isinstance(found, dict) else {}


def container_of(path: Path) -> str:
    """`torch` (zip or legacy), `safetensors` or `pickle`, by the first bytes.

    Raises:
        UserError: missing, a folder, or empty.
    """
    check_ordinary(path)
    try:
        with open(path, "rb") as file:
            head = file.read(64)
    except OSError as error:
        raise UserError(f"cannot read checkpoint {path}: {error.strerror or error}.") from error
    if not head:
        raise UserError(f"checkpoint {path} is empty (0 bytes); download or copy it again.")
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return "safetensors"
    # Legacy torch files begin with a pickled magic number: protocol 2, then a 10-byte integer.
    if head[:4] == b"PK\x03\x04" or head[:4] == b"\x80\x02\x8a\x0a":
        return "torch"
    if head[:1] == b"\x80" or head[:1] in b"(]}cd":
        return "pickle"
    if is_zip(path):
        return "torch"
    raise UserError(
        f"{path} is not a checkpoint: it starts with {head[:8]!r}, which is neither a torch file, nor safetensors, nor"
        " a pickle. Was an error page or a pointer file downloaded in its place?"
    )


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        provenance = read_provenance(path)
        return {**load_file(str(path)), **({"provenance": provenance} if provenance else {})}
    except UserError:
        raise
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"cannot read {path} as safetensors: {error}. Download or copy it again.") from error


def _safetensors_provenance(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            return json.loads((file.metadata() or {}).get("provenance", "{}"))
    except RecursionError as error:
        raise UserError(f"cannot read {path}: its provenance is nested too deeply. Copy it again.") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"cannot read {path} as safetensors: {error}. Download or copy it again.") from error


def _read_torch(path: Path, trust_pickle: bool, mmap: bool = False) -> Any:
    if not trust_pickle and _is_torchscript(path):
        raise UserError(
            f"{path} is a TorchScript archive: a program with its weights. Nothing in it was run. Save the state dict"
            " of the model that it was made from, or, if you trust its author as you would a program, convert it once"
            " with --trust-pickle."
        )
    try:
        if trust_pickle:
            return _read_trusted(path)
        if is_zip(path):
            check_archive(path)
        with torch.serialization.safe_globals(_HARMLESS):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        check_content(content, path)
        return content
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors and plain values, or is damaged: {_gist(error)} Nothing in it was run. If"
            " you trust its author as you would a program, convert it once with --trust-pickle."
        ) from error
    except (ImportError, AttributeError) as error:
        if not trust_pickle:
            raise _damaged(path, error) from error
        raise UserError(
            f"{path} holds a whole pickled model, whose class cannot be imported here ({_gist(error)}). Put the code"
            " that it was saved with on PYTHONPATH, or save its weights alone there: torch.save(model.state_dict(),"
            " ...)."
        ) from error
    except Exception as error:  # a damaged file raises nearly anything: RuntimeError, EOFError, KeyError, struct.error
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        f"cannot read {path} as a torch file ({type(error).__name__}: {_gist(error)}); it is truncated or damaged."
        " Download or copy it again."
    )


def _is_torchscript(path: Path) -> bool:
    """Whether a file is a program of torch.jit.save; its constants are what torch tells it by, too."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):  # `_read_torch` says what is wrong
        return False


def _read_trusted(path: Path) -> Any:
    if container_of(path) == "pickle":
        with open(path, "rb") as file:
            return pickle.load(file, encoding="latin1")
    return torch.load(path, map_location="cpu", weights_only=False)


def _gist(error: Exception) -> str:
    """The sentence of torch's long message that names what was refused."""
    text = " ".join(str(error).split())
    if found := re.search(r"(?:GLOBAL|global:?|class) ([A-Za-z_][\w.]*\.\w+)", text):
        return f"it asks for {found.group(1)}."
    for marker in ("Unsupported", "WeightsUnpickler error: "):
        at = text.find(marker)
        if at >= 0:
            return text[at : at + 160].split(". ")[0].rstrip(".") + "."
    return text[:160]
