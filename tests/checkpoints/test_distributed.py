"""Folders of torch.distributed.checkpoint, written by torch; whole, damaged and hostile."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import MetadataIndex

from clop_det.checkpoints.folders import parts_of
from clop_det.checkpoints.reading import read_checkpoint
from clop_det.conversion.contents import flatten
from clop_det.errors import UserError

STATE = {"a.weight": torch.arange(24.0).view(4, 6), "n": torch.tensor(3), "half": torch.ones(2, dtype=torch.bfloat16)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    content = {"model": STATE, "arch": "resnet18", "args": {"mean": [0.5] * 3, "acc": np.float64(0.5)}}
    dcp.save(content, checkpoint_id=tmp_path / "dcp", no_dist=True)
    return tmp_path / "dcp"


def _change(folder: Path, change: Any) -> None:
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    change(metadata)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))


def _in_two(folder: Path, second: int = 2) -> None:
    """The tensor `a.weight` as two shards of two rows, the second at row `second`."""
    pieces = []
    with (folder / "__1_0.distcp").open("wb") as file:
        for rows in (STATE["a.weight"][:2], STATE["a.weight"][2:]):
            begin = file.tell()
            torch.save(rows.clone(), file)
            file.seek(0, os.SEEK_END)
            pieces.append((begin, file.tell() - begin))

    def change(metadata: Any) -> None:
        place = metadata.storage_data.pop(MetadataIndex("model.a.weight", [0, 0]))
        for row, (begin, length) in zip((0, second), pieces, strict=True):
            index = MetadataIndex("model.a.weight", [row, 0])
            metadata.storage_data[index] = type(place)("__1_0.distcp", begin, length)

    _change(folder, change)


@pytest.mark.parametrize("name", ["", ".metadata", "__0_0.distcp"])
def test_what_torch_saved_is_read(name: str, folder: Path) -> None:
    read = read_checkpoint(folder / name)
    assert read["model"].keys() == STATE.keys()
    for key, tensor in STATE.items():
        assert torch.equal(read["model"][key], tensor)
        assert read["model"][key].dtype == tensor.dtype
    contents = flatten(read, folder)
    assert contents.facts == {"arch": "resnet18", "args.mean": [0.5] * 3, "args.acc": 0.5}


def test_bytes_that_many_tensors_share_are_refused(folder: Path) -> None:
    """A piece of 1 MB that 1000 tensors name would take 1 GB."""

    def change(metadata: Any) -> None:
        one = MetadataIndex("model.a.weight", [0, 0])
        for number in range(50):
            name = f"again{number}"
            metadata.state_dict_metadata[name] = metadata.state_dict_metadata["model.a.weight"]
            metadata.storage_data[MetadataIndex(name, [0, 0])] = metadata.storage_data[one]

    _change(folder, change)
    with pytest.raises(UserError, match="same bytes for several tensors"):
        read_checkpoint(folder)


def test_shards_are_put_together(folder: Path) -> None:
    before = parts_of(folder).digest
    _in_two(folder)
    assert torch.equal(read_checkpoint(folder)["model"]["a.weight"], STATE["a.weight"])
    assert [file.name for file in parts_of(folder).files] == ["__0_0.distcp", "__1_0.distcp"]
    assert parts_of(folder).digest != before


@pytest.mark.parametrize(("second", "words"), [(1, "overlap"), (3, "does not lie inside"), (-2, "does not lie inside")])
def test_shards_that_do_not_make_up_the_tensor(second: int, words: str, folder: Path) -> None:
    _in_two(folder, second)
    with pytest.raises(UserError, match=rf"{words}.*dcp_to_torch"):
        read_checkpoint(folder)


def _first(metadata: Any) -> Any:
    return next(iter(metadata.storage_data.values()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: setattr(_first(m), "relative_path", "../__0_0.distcp"), "no file in it"),
        (lambda m: setattr(_first(m), "relative_path", "/etc/passwd"), "no file in it"),
        (lambda m: setattr(_first(m), "length", 1 << 40), "ends before byte"),
        (lambda m: setattr(_first(m), "offset", -1), "ends before byte"),
        (lambda m: setattr(_first(m), "transform_descriptors", ["zstd"]), "transformed by"),
        (lambda m: m.storage_data.popitem(), "do not make up|IndexError"),
        (lambda m: setattr(m.state_dict_metadata["model.a.weight"], "size", (10**9, 10**9)), "do not make up"),
        (lambda m: m.state_dict_metadata.pop("model.n"), "KeyError"),
        (lambda m: setattr(m, "storage_data", None), "AttributeError"),
    ],
)
def test_a_folder_that_is_not_what_was_saved(change: Any, words: str, folder: Path) -> None:
    (folder.parent / "__0_0.distcp").write_bytes((folder / "__0_0.distcp").read_bytes())
    _change(folder, change)
    with pytest.raises(UserError, match=words):
        read_checkpoint(folder)


def test_metadata_that_runs_something_is_not_run(folder: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(folder / "ran"),)

    _change(folder, lambda metadata: setattr(metadata, "version", Bomb()))
    with pytest.raises(UserError, match="mkdir"):
        read_checkpoint(folder, trust_pickle=True)  # the trust is in the pieces' objects, not in the index
    assert not (folder / "ran").exists()
    # The library's classes as a way to change the reader: state given to a class itself.
    (folder / ".metadata").write_bytes(b"ctorch.distributed.checkpoint.metadata\nMetadata\n(N}S'fields'\nS'x'\nstb.")
    with pytest.raises(UserError):
        read_checkpoint(folder)


def test_a_piece_that_is_damaged(folder: Path) -> None:
    data = bytearray((folder / "__0_0.distcp").read_bytes())
    data[10:200] = bytes(190)
    (folder / "__0_0.distcp").write_bytes(data)
    with pytest.raises(UserError, match=r"__0_0\.distcp at byte 0.*damaged"):
        read_checkpoint(folder)
