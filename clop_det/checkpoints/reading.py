"""Reading checkpoint files of every container format, without running anything that a file names."""

from __future__ import annotations

import argparse
import json
import pickle
import re
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clop_det.checkpoints.array_pickle import read_array_pickle
from clop_det.checkpoints.containers import container_of
from clop_det.checkpoints.distributed import METADATA, read_distributed
from clop_det.checkpoints.folders import parts_of
from clop_det.checkpoints.integrity import check_integrity
from clop_det.checkpoints.limits import check_archive, check_content, is_zip
from clop_det.checkpoints.stand_ins import inert_in, settle, stand_ins_for
from clop_det.errors import UserError
from clop_det.files import StrPath

# A bag of values that many training scripts save beside the weights; rebuilding one only sets its attributes.
_HARMLESS: list[Any] = [argparse.Namespace]


def read_checkpoint(path: StrPath, *, trust_pickle: bool = False, verify: bool = True) -> Any:
    """Content of a `.pth`-like file, a pickle of arrays, a safetensors or an npz file, told apart by content.

    Objects beside the tensors of a `.pth`-like file are `stand_ins.Inert`, unless free unpickling is allowed.

    Args:
        path: the file, a folder with one checkpoint in it, or the index of several files.
        trust_pickle: unpickle freely, that is: let the file run any program. Only for files whose author you trust.
        verify: check the SHA-256 sidecar or the checksums inside the file first.

    Raises:
        UserError: missing, empty, damaged, or in need of free unpickling.
    """
    parts = parts_of(Path(path))
    if parts.index is None:
        return _read_file(parts.files[0], trust_pickle, verify)
    if parts.index.name == METADATA:
        for file in parts.files if verify else ():
            check_integrity(file)
        return read_distributed(parts.index, lambda piece: _read_torch(piece, trust_pickle))
    shards = {file: _read_file(file, trust_pickle, verify) for file in parts.files}
    for file, content in shards.items():
        if not isinstance(content, dict):
            raise UserError(f"{file} holds a {type(content).__name__}, not a shard (a dictionary of tensors).")
    absent = [name for name, file in parts.tensors if name not in shards[file]]
    if absent:
        raise UserError(
            f"{parts.index} names {len(absent)} tensors that its shards do not hold ({absent[0]}). Copy the folder"
            " again."
        )
    named = set(parts.tensors)
    held = [(name, file) for file, content in shards.items() for name in content if name != "provenance"]
    extra = [name for name, file in held if (name, file) not in named]
    if extra:
        raise UserError(
            f"the shards hold {len(extra)} tensors that {parts.index} does not name ({extra[0]}). Copy the folder"
            " again."
        )
    return {name: shards[file][name] for name, file in parts.tensors}


def _read_file(path: Path, trust_pickle: bool, verify: bool) -> Any:
    container = container_of(path)
    if verify:
        check_integrity(path)
    if container == "safetensors":
        return _read_safetensors(path)
    if container == "npz":
        return _read_npz(path)
    if container == "pickle" and not trust_pickle:
        return read_array_pickle(path)
    return _read_torch(path, trust_pickle)


def read_provenance(path: StrPath) -> dict[str, Any]:
    """The provenance stored in a file, {} without one.

    Raises:
        UserError: see `read_checkpoint`; the file's integrity is not checked here.
    """
    path = Path(path)
    container = container_of(path)
    if container == "safetensors":
        found = _safetensors_provenance(path)
    elif container == "torch" and is_zip(path):
        content = _read_torch(path, trust_pickle=False, mmap=True)
        found = content.get("provenance") if isinstance(content, dict) else None
    else:
        content = read_checkpoint(path, verify=False)
        found = content.get("provenance") if isinstance(content, dict) else None
    return found if isinstance(found, dict) else {}


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        provenance = _safetensors_provenance(path)
        provenance = provenance if isinstance(provenance, dict) else {}
        return {**load_file(str(path)), **({"provenance": provenance} if provenance else {})}
    except UserError:
        raise
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"cannot read {path} as safetensors: {error}. Download or copy it again.") from error


def _read_npz(path: Path) -> dict[str, Any]:
    try:
        check_archive(path)
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (
        OSError,
        ValueError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        SyntaxError,
        RuntimeError,
        MemoryError,
    ) as error:
        raise UserError(
            f"cannot read {path} as a NumPy archive of numeric arrays ({error}). Nothing in it was run. Save the arrays"
            " again with numpy.savez."
        ) from error


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
        content = _read_restricted(path, mmap)
        check_content(content, path)
        return content
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        if "Unsupported operand" in str(error):
            raise UserError(
                f"{path} was saved with a pickle protocol that torch's safe reader does not read, or is damaged."
                " Nothing in it was run. Save it again with torch.save(..., path), or, if you trust its author as you"
                " would a program, convert it once with --trust-pickle."
            ) from error
        raise UserError(
            f"{path} holds more than tensors and plain values, or is damaged: {_gist(error)} Nothing in it was run. If"
            " you trust its author as you would a program, convert it once with --trust-pickle."
        ) from error
    except (ImportError, AttributeError) as error:
        if not trust_pickle:
            raise _damaged(path, error) from error
        raise UserError(
            f"{path} holds {_pickled(path)}, whose class cannot be imported here ({_gist(error)}). Put the code that it"
            " was saved with on PYTHONPATH, or save its weights alone there: torch.save(model.state_dict(), ...)."
        ) from error
    except Exception as error:  # a damaged file raises nearly anything: RuntimeError, EOFError, KeyError, struct.error
        raise _damaged(path, error) from error


def _read_restricted(path: Path, mmap: bool) -> Any:
    """What torch's restricted unpickler reads; if it refuses objects, once more with stand-ins for them."""

    def load(allowed: list[Any]) -> Any:
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an unusual pickle protocol: either it is read, or refused in words
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)

    try:
        return load(_HARMLESS)
    except pickle.UnpicklingError as refusal:
        try:
            stand_ins = stand_ins_for(path)
        except (ValueError, zipfile.BadZipFile):  # no whole pickle
            raise refusal from None
        if not stand_ins:
            raise
    content = load(_HARMLESS + stand_ins)
    check_content(content, path)  # before the arrays are made
    return settle(content)


def _pickled(path: Path) -> str:
    """What of a file needs code that is not here, in words: without that code only its stand-ins can be read."""
    try:
        content = _read_restricted(path, mmap=False)
    except Exception:  # whatever it is, the import error that led here says more
        content = None
    if not isinstance(content, dict):
        return "a whole pickled model"
    entries = [str(key) for key, value in content.items() if inert_in(value)]
    return f"pickled objects in {', '.join(entries)} (weights beside them are read without --trust-pickle)"


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
    if found := re.search(r"(?:GLOBAL|global:?|class) '?([A-Za-z_][\w.]*\.\w+)", text):
        return f"it asks for {found.group(1)}."
    for marker in ("Unsupported", "WeightsUnpickler error: "):
        at = text.find(marker)
        if at >= 0:
            return text[at : at + 160].split(". ")[0].rstrip(".") + "."
    return text[:160]
