"""A small file that would fill the memory, or be walked for years, is one refusal, at once."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clop_det.checkpoints.reading import read_checkpoint, read_provenance
from clop_det.errors import UserError


def laughs(deep: int, wide: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(deep):
        value = [value] * wide
    return value


def test_an_index_of_the_memo_beyond_the_pickle(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x02}r" + struct.pack("<I", 300_000_000) + b".")
    with pytest.raises(UserError, match="memo index 300000000 in a pickle of 4 operations"):
        read_checkpoint(path)


@pytest.mark.parametrize("name", ["a.pkl", "a.pth"])
def test_containers_that_name_one_another(name: str, tmp_path: Path) -> None:
    content = {"model": laughs(40, 2), "provenance": {"loss": laughs(40, 2)}}
    if name.endswith("pkl"):
        (tmp_path / name).write_bytes(pickle.dumps(content))
    else:
        torch.save(content, tmp_path / name)
    for read in (read_checkpoint, read_provenance):
        with pytest.raises(UserError, match="names more than 2,000,000 values"):
            read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.pkl", "a.pth"])
def test_what_several_names_share_is_read(name: str, tmp_path: Path) -> None:
    shared = {"weight": [1, 2]}
    content = {"model": shared, "ema": shared}
    if name.endswith("pkl"):
        (tmp_path / name).write_bytes(pickle.dumps(content))
    else:
        torch.save(content, tmp_path / name)
    assert read_checkpoint(tmp_path / name) == {"model": {"weight": [1, 2]}, "ema": {"weight": [1, 2]}}


def test_a_tensor_that_repeats_one_number(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1).expand(100_000, 100_000)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="names tensors of 40,000,000,000 bytes"):
        read_checkpoint(tmp_path / "a.pth")


def test_parts_that_unpack_to_far_more_than_the_file(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(30_000_000)}, tmp_path / "a.pth")
    packed = zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "a.pth") as whole, packed:
        for part in whole.infolist():
            packed.writestr(part.filename, whole.read(part))
    with pytest.raises(UserError, match="unpacks to 120,"):
        read_checkpoint(tmp_path / "b.pth")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pth")
    with pytest.raises(UserError, match="no ordinary file"):
        read_checkpoint(tmp_path / "a.pth")


def test_a_pipe_in_the_place_of_the_sidecar(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "a.pth")
    os.mkfifo(tmp_path / "a.pth.sha256")
    with pytest.raises(UserError, match=r"a\.pth\.sha256 is no ordinary file"):
        read_checkpoint(tmp_path / "a.pth")


def _of_one_buffer(protocol: int) -> bytes:
    """A hundred arrays that share the same megabyte: a pickle of little more than a megabyte."""
    data = pickle.dumps(np.arange(1 << 20, dtype=np.uint8), protocol=protocol)
    one, state = np.arange(1 << 20, dtype=np.uint8).__reduce_ex__(protocol)[:2]

    class Again:
        def __reduce__(self) -> tuple[Any, ...]:
            return one, state

    found = pickle.dumps({"arrays": [Again() for _ in range(100)]}, protocol=protocol)
    assert len(found) < 2 * len(data), "the buffer is not shared, so the test proves nothing"
    return found


def test_arrays_that_share_a_buffer_are_counted_each(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(_of_one_buffer(5))
    with pytest.raises(UserError, match=r"names tensors of 104,857,600 bytes, 20 times its size"):
        read_checkpoint(tmp_path / "a.pkl")


def test_a_dictionary_that_says_it_is_empty(tmp_path: Path) -> None:
    content: Any = OrderedDict(weight=torch.zeros(1).expand(100_000, 100_000))
    content.values = []  # an attribute, which torch's reader sets as the file says
    torch.save({"model": content}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="names tensors of 40,000,000,000 bytes"):
        read_checkpoint(tmp_path / "a.pth")
    content = OrderedDict(path=Path("/data"), number=np.float64(0.5))
    content.values = []
    torch.save({"model": content}, tmp_path / "b.pth")
    assert read_checkpoint(tmp_path / "b.pth")["model"]["number"] == 0.5


def _npz(path: Path) -> bytearray:
    np.savez(path, weight=np.arange(3.0))
    return bytearray(path.read_bytes())


@pytest.mark.parametrize("verify", [True, False])
def test_an_encrypted_archive_is_one_line(verify: bool, tmp_path: Path) -> None:
    data = _npz(tmp_path / "a.npz")
    for begin, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(begin) + flags] |= 1
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(UserError, match="encrypted"):
        read_checkpoint(tmp_path / "a.npz", verify=verify)


def test_an_array_larger_than_any_memory_is_one_line(tmp_path: Path) -> None:
    header = np.lib.format.magic(1, 0) + b"\x76\x00"
    header += b"{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999999,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("weight.npy", header)
    with pytest.raises(UserError, match="NumPy archive.*allocate"):
        read_checkpoint(tmp_path / "a.npz")
