"""Checkpoints that are folders, or files in shards with an index, as Hugging Face writes them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from clop_det.checkpoints.distributed import METADATA, PIECES, is_distributed
from clop_det.errors import UserError
from clop_det.files import read_json, sha256_of

_INDEX = ".index.json"
_SHARD = re.compile(r".+-\d{5}-of-(\d{5})\.\w+")
_ENDINGS = frozenset({".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".pkl", ".npz"})
_FIRST = ("model.safetensors", "pytorch_model.bin")  # of transformers, which may save both


@dataclass(frozen=True)
class Parts:
    """The files of one checkpoint.

    Attributes:
        files: one file, or all shards.
        index: the file that names the shards, or says where in them tensors lie; None for one file.
        tensors: name of each tensor -> file, by the index.
    """

    files: tuple[Path, ...]
    index: Path | None = None
    tensors: tuple[tuple[str, Path], ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of the file; of several, that of their digests and names as `sha256sum` prints them."""
        if self.index is None:
            return sha256_of(self.files[0])
        lines = "".join(f"{sha256_of(file)}  {file.name}\n" for file in (self.index, *self.files))
        return hashlib.sha256(lines.encode()).hexdigest()


def parts_of(path: Path) -> Parts:
    """The files that a path means: a file itself, the checkpoint in a folder, or the shards of an index.

    Raises:
        UserError: a folder without a checkpoint or with several, a single shard of several, or an index that names
            something else than files beside it.
    """
    folder = path.parent if path.name == METADATA or path.suffix == PIECES else path
    if is_distributed(folder):
        return Parts(tuple(sorted(folder.glob(f"*{PIECES}"))), folder / METADATA)
    if path.is_dir():
        return parts_of(_file_in(path))
    if path.name.endswith(_INDEX):
        return _shards(path)
    shard = _SHARD.fullmatch(path.name)
    if shard and int(shard[1]) > 1:
        raise UserError(
            f"{path} is one of {int(shard[1])} shards of a checkpoint. Give the folder, or the file that ends in"
            f" {_INDEX} in it."
        )
    return Parts((path,))


def _file_in(folder: Path) -> Path:
    names = sorted(file.name for file in folder.iterdir() if file.is_file())
    indices = [name for name in names if name.endswith(_INDEX)]
    plain = [name for name in names if Path(name).suffix in _ENDINGS and not _SHARD.fullmatch(name)]
    known = [name for name in _FIRST if name in plain]
    chosen = known[:1] or (indices if len(indices) == 1 else plain if not indices else [])
    if len(chosen) == 1:
        return folder / chosen[0]
    if chosen or indices:
        raise UserError(f"{folder} holds several checkpoints: {', '.join((indices + plain)[:5])}. Give one of them.")
    raise UserError(f"cannot read checkpoint {folder}: it is a folder that holds no checkpoint. Give a file.")


def _shards(index: Path) -> Parts:
    content = read_json(index)
    named = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(named, dict) or not named:
        raise UserError(f"{index} has no weight_map, so it names no shards. Copy the folder again.")
    for file in set(map(str, named.values())):
        if Path(file).name != file or not (index.parent / file).is_file():
            raise UserError(f"{index} names the shard {file}, which is no file beside it. Copy the folder again.")
    tensors = tuple((str(name), index.parent / str(file)) for name, file in named.items())
    return Parts(tuple(dict.fromkeys(file for _, file in tensors)), index, tensors)
