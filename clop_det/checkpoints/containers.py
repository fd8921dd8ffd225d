"""What kind of file something is, by its first bytes: a checkpoint, or something else that is called by its name."""

from __future__ import annotations

import re
import tarfile
import zipfile
from pathlib import Path

from clop_det.checkpoints.limits import is_zip
from clop_det.errors import UserError
from clop_det.files import check_ordinary

_UNPACK = "Unpack it, and give the checkpoint in it."
_SAVE_FROM = (
    "Save the weights as a torch file (torch.save of a state dict) or as safetensors with the library it is of."
)
# What a file begins with, what it is then, and what to do.
_FOREIGN: tuple[tuple[bytes, str, str], ...] = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras saves weights", _SAVE_FROM),
    (b"\x1f\x8b", "compressed by gzip", _UNPACK),
    (b"BZh", "compressed by bzip2", _UNPACK),
    (b"\xfd7zXZ\x00", "compressed by xz", _UNPACK),
    (b"(\xb5/\xfd", "compressed by Zstandard", _UNPACK),
    (b"7z\xbc\xaf'\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"\x93NUMPY", "a single NumPy array", "A checkpoint has many: numpy.savez writes them into one .npz."),
    (b"GGUF", "a GGUF file, of a language model", _SAVE_FROM),
)
_ONNX = re.compile(rb"\x08[\x01-\x20]\x12")  # ModelProto: ir_version, then producer_name
_LEGACY = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"  # the magic number that a legacy torch file begins with, pickled


def container_of(path: Path) -> str:
    """`torch` (zip or legacy), `safetensors`, `npz` or `pickle`, by the first bytes.

    Raises:
        UserError: missing, a folder, empty, or a file of another kind, which is named.
    """
    check_ordinary(path)
    try:
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError as error:
        raise UserError(f"cannot read checkpoint {path}: {error.strerror or error}.") from error
    if not head:
        raise UserError(f"checkpoint {path} is empty (0 bytes); download or copy it again.")
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return "safetensors"
    if head[:1] == b"\x80" and _LEGACY in head[:32]:
        return "torch"
    if head[257:262] == b"ustar":
        raise UserError(f"{path} is a tar archive that holds {_some(_names_in_tar(path))}. {_UNPACK}")
    if head[:1] == b"\x80" or head[:1] in b"(]}cd":
        return "pickle"
    if head[:4] == b"PK\x03\x04" or is_zip(path):
        return _kind_of_zip(path)
    for begin, what, remedy in _FOREIGN:
        if head.startswith(begin):
            raise UserError(f"{path} is {what}. {remedy}")
    if _ONNX.match(head):
        raise UserError(f"{path} is an ONNX graph, whose tensors do not keep their names. {_SAVE_FROM}")
    raise UserError(
        f"{path} is not a checkpoint: it starts with {head[:8]!r}, which is neither a torch file, nor safetensors, nor"
        " a pickle. Was an error page or a pointer file downloaded in its place?"
    )


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return "torch"  # its reader says what is wrong
    if not names or any(name.endswith(("data.pkl", "constants.pkl")) for name in names):
        return "torch"
    if all(name.endswith(".npy") for name in names):
        return "npz"
    raise UserError(f"{path} is a zip archive that holds {_some(names)}. {_UNPACK}")


def _names_in_tar(path: Path) -> list[str]:
    try:
        with tarfile.open(path, "r:") as archive:
            first = archive.next()
    except (tarfile.TarError, OSError, ValueError):
        first = None
    return [first.name] if first else []


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") if names else "nothing"
