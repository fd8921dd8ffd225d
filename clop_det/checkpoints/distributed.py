"""Folders of torch.distributed.checkpoint: a pickle that says where each tensor's pieces lie, and files of pieces.

The pickle is read like every other of somebody's: its classes become records that do nothing.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from clop_det.checkpoints.array_pickle import ArrayUnpickler, Maker, read_restricted
from clop_det.errors import UserError

METADATA, PIECES = ".metadata", ".distcp"
_PACKAGE = "torch.distributed.checkpoint."
_REMEDY = (
    "If it is whole, join it to one file where it was written: python -m torch.distributed.checkpoint.format_utils"
    " dcp_to_torch FOLDER one.pth"
)


class _Record:
    """Stands for an object of the library's; each file has subclasses of its own, so none can change the next one's."""

    def __init__(self, *_: Any) -> None:
        self.fields: dict[str, Any] = {}

    def __new__(cls, *_: Any) -> _Record:
        made = super().__new__(cls)
        made.fields = {}
        return made

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.fields = state


class _MetadataUnpickler(ArrayUnpickler):
    """Knows the library's records, sizes and element types, which the pieces say again."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._records: dict[str, type[_Record]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.".startswith(_PACKAGE):
            return self._records.setdefault(name, type("Record", (_Record,), {}))
        if (module, name) == ("torch", "Size"):
            return Maker(tuple)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype | torch.layout):
            return name
        if (module, name) == ("torch.serialization", "_get_layout") or module.split(".")[0] == "pathlib":
            return Maker(lambda *_: None)
        return super().find_class(module, name)


def read_distributed(metadata: Path, read: Callable[[Path], Any]) -> dict[Any, Any]:
    """The content of a folder as it was nested when it was saved.

    Args:
        metadata: the file `.metadata` of the folder.
        read: what reads one piece, a torch file.

    Raises:
        UserError: damaged, compressed, pieces that do not make up their tensor, or a file outside the folder.
    """
    found = read_restricted(metadata, _MetadataUnpickler, lambda content: content, _REMEDY)
    try:
        sizes, places, nesting = (
            found.fields[name] for name in ("state_dict_metadata", "storage_data", "planner_data")
        )
        nesting = nesting or {}
        left = sum(file.stat().st_size for file in metadata.parent.glob(f"*{PIECES}"))
        pieces: dict[str, list[tuple[Any, Any]]] = {name: [] for name in sizes}
        for index, place in places.items():
            piece = _piece(metadata.parent, place.fields, read)
            pieces[index.fields["fqn"]].append((index.fields.get("offset"), piece))
            left -= place.fields["length"]
            if left < 0:
                raise ValueError("it names the same bytes for several tensors")
        content: dict[Any, Any] = {}
        for name, parts in pieces.items():
            *above, last = nesting.get(name, (name,))
            inner = content
            for key in above:
                inner = inner.setdefault(key, {})
            inner[last] = _joined(name, sizes[name].fields.get("size"), parts)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"cannot read {metadata.parent} as a folder of torch.distributed.checkpoint ({type(error).__name__}:"
            f" {error}). Copy the folder again. {_REMEDY}"
        ) from error
    return content


def _piece(folder: Path, place: dict[str, Any], read: Callable[[Path], Any]) -> Any:
    """What lies at one place of a file in the folder."""
    path = folder / place["relative_path"]
    if path.parent != folder or not path.is_file():
        raise ValueError(f"it names {place['relative_path']!r}, which is no file in it")
    if place.get("transform_descriptors"):
        raise ValueError(f"{path.name} is transformed by {place['transform_descriptors']}")
    offset, length = place["offset"], place["length"]
    if not 0 <= offset <= offset + length <= path.stat().st_size:
        raise ValueError(f"{path.name} ends before byte {offset + length}")
    with open(path, "rb") as file, tempfile.NamedTemporaryFile(suffix=".pth") as alone:
        file.seek(offset)
        alone.write(file.read(length))
        alone.flush()
        try:
            return read(Path(alone.name))
        except UserError as error:
            raise ValueError(f"{path.name} at byte {offset}: {error}".replace(alone.name, "the piece")) from error


def _joined(name: str, size: Any, parts: list[tuple[Any, Any]]) -> Any:
    """The tensor of a size that the pieces at their offsets make up, each element once; what is no tensor as it is."""
    if size is None and len(parts) == 1:
        return parts[0][1]
    if math.prod(size) != sum(piece.numel() for _, piece in parts) or not parts:
        raise ValueError(f"its pieces of {name} do not make up {tuple(size)}")
    whole = torch.empty(size, dtype=parts[0][1].dtype)
    covered = torch.zeros(size, dtype=torch.bool)
    for offset, piece in parts:
        place = tuple(slice(start, start + length) for start, length in zip(offset, piece.shape, strict=True))
        if whole[place].shape != piece.shape or piece.dtype != whole.dtype or min(offset, default=0) < 0:
            raise ValueError(f"a piece of {name} does not lie inside {tuple(size)}")
        whole[place], covered[place] = piece, True
    if not bool(covered.all()):
        raise ValueError(f"its pieces of {name} overlap")
    return whole


def is_distributed(folder: Path) -> bool:
    """Whether a folder was written by torch.distributed.checkpoint."""
    return (folder / METADATA).is_file()
