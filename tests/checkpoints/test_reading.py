from __future__ import annotations

import argparse
import os
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from clop_det.checkpoints.containers import container_of
from clop_det.checkpoints.integrity import (
    check_integrity,
    digested_write,
    save_torch,
    sidecar_of,
    why_damaged,
)
from clop_det.checkpoints.reading import read_checkpoint, read_provenance
from clop_det.conversion.contents import flatten
from clop_det.errors import UserError
from clop_det.files import sha256_of

STATE = {"w": torch.arange(5000.0), "b": torch.ones(3, dtype=torch.float16)}


def _same(read: Any) -> bool:
    return all(torch.equal(torch.as_tensor(read[name]), tensor) for name, tensor in STATE.items())


@pytest.mark.parametrize("name", ["a.pth", "a.bin", "a.pkl", "no_ending"])
def test_containers_are_told_apart_by_content_not_by_name(tmp_path: Path, name: str):
    writers = {
        "torch": lambda path: torch.save(STATE, path),
        "legacy": lambda path: torch.save(STATE, path, _use_new_zipfile_serialization=False),
        "safetensors": lambda path: save_file(STATE, str(path)),
        "pickle": lambda path: path.write_bytes(pickle.dumps({k: v.numpy() for k, v in STATE.items()})),
    }
    for kind, write in writers.items():
        path = tmp_path / name
        write(path)
        assert container_of(path) == {"legacy": "torch"}.get(kind, kind)
        assert _same(read_checkpoint(path))


class _Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("kind", ["torch", "legacy", "pickle"])
def test_a_file_that_runs_something_is_refused_and_not_run(tmp_path: Path, kind: str):
    marker, path = tmp_path / "ran", tmp_path / "a.pth"
    content = {"state_dict": {"w": np.zeros(2) if kind == "pickle" else torch.zeros(2)}, "x": _Bomb(marker)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "torch")
    with pytest.raises(UserError, match="--trust-pickle") as caught:
        read_checkpoint(path)
    assert "mkdir" in str(caught.value)
    assert not marker.exists()
    read_checkpoint(path, trust_pickle=True)
    assert marker.exists(), "trust_pickle means trust"


def test_a_model_whose_class_is_not_here_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module = types.ModuleType("somebodys_code")
    module.Net = type("Net", (torch.nn.Linear,), {"__module__": "somebodys_code"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "somebodys_code", module)
    torch.save(module.Net(2, 2), tmp_path / "a.pth")
    assert isinstance(read_checkpoint(tmp_path / "a.pth", trust_pickle=True), torch.nn.Linear)
    without_class = types.ModuleType("somebodys_code")
    for state in (without_class, None):  # its class is gone, or its module
        monkeypatch.setitem(sys.modules, "somebodys_code", state)  # type: ignore[arg-type]
        with pytest.raises(UserError, match="whole pickled model.*cannot be imported.*PYTHONPATH") as caught:
            read_checkpoint(tmp_path / "a.pth", trust_pickle=True)
        assert "somebodys_code" in str(caught.value)
        assert "damaged" not in str(caught.value)


def test_a_torchscript_archive_says_what_it_is(tmp_path: Path):
    path = tmp_path / "a.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(path)
    with pytest.raises(UserError, match="TorchScript archive.*state dict.*--trust-pickle"):
        read_checkpoint(path)
    assert set(flatten(read_checkpoint(path, trust_pickle=True), path).tensors) == {"weight", "bias"}


def test_arrays_of_text_and_objects_are_no_tensors(tmp_path: Path):
    arrays = {"w": np.ones(2, np.float32), "big": np.ones(2, ">f4"), "names": np.array(["a", "b"]),
              "things": np.array([None, {}], dtype=object), "long": np.ones(2, np.longdouble)}  # fmt: skip
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(arrays))
    tensors = flatten(read_checkpoint(path, trust_pickle=True), path).tensors
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {"w": [1.0, 1.0], "big": [1.0, 1.0]}


def test_a_namespace_of_arguments_beside_the_weights_is_harmless(tmp_path: Path):
    torch.save({"state_dict": STATE, "args": argparse.Namespace(lr=0.1)}, tmp_path / "a.pth")
    assert _same(read_checkpoint(tmp_path / "a.pth")["state_dict"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>not found</html>", "error page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "pointer file"),
        (b"PK\x03\x04 and nothing of a zip", "truncated or damaged"),
        (b"\xff" * 100, "not a checkpoint"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path: Path, content: bytes, words: str):
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_checkpoint(path)


def test_missing_file_and_folder(tmp_path: Path):
    with pytest.raises(UserError, match=r"none\.pth"):
        read_checkpoint(tmp_path / "none.pth")
    with pytest.raises(UserError, match="cannot read"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("kind", ["torch", "legacy", "safetensors"])
@pytest.mark.parametrize("part", [0.3, 0.7, 0.99])
def test_truncated_files_are_refused(tmp_path: Path, kind: str, part: float):
    path = tmp_path / "a.pth"
    if kind == "safetensors":
        save_file(STATE, str(path))
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=kind == "torch")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(UserError, match=r"a\.pth"):
        read_checkpoint(path)


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("part", [0.2, 0.5, 0.8])
def test_a_flipped_byte_is_found_with_and_without_sidecar(tmp_path: Path, part: float):
    path = tmp_path / "a.pth"
    save_torch(STATE, path)
    _flip(path, int(path.stat().st_size * part))
    assert not _same(torch.load(path, weights_only=True)), "torch itself sees nothing: why this check exists"
    with pytest.raises(UserError, match="SHA-256"):
        read_checkpoint(path)
    sidecar_of(path).unlink()
    with pytest.raises(UserError, match="checksum"):
        read_checkpoint(path)


def test_a_flipped_byte_in_safetensors_is_found_by_the_sidecar(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    save_file(STATE, str(path))
    sidecar_of(path).write_text(f"{sha256_of(path)}  a.safetensors\n")
    assert _same(read_checkpoint(path))
    _flip(path, path.stat().st_size - 100)
    with pytest.raises(UserError, match="SHA-256"):
        read_checkpoint(path)


def test_sidecar_is_what_sha256sum_writes(tmp_path: Path):
    path = tmp_path / "a.pth"
    save_torch(STATE, path)
    assert sidecar_of(path).read_text() == f"{sha256_of(path)}  a.pth\n"
    check_integrity(path)


def test_unreadable_sidecar_counts_as_damage(tmp_path: Path):
    path = tmp_path / "a.pth"
    save_torch(STATE, path)
    sidecar_of(path).write_text("")
    assert "sidecar" in str(why_damaged(path))


def test_a_failed_write_leaves_the_old_file_and_its_sidecar(tmp_path: Path):
    path = tmp_path / "a.pth"
    save_torch(STATE, path)
    before = path.read_bytes()
    with pytest.raises(RuntimeError), digested_write(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == before
    assert why_damaged(path) is None
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.pth", "a.pth.sha256"]


def test_provenance_is_read_from_each_container(tmp_path: Path):
    record = {"arch": "resnet18", "pixel_mean": [1.0, 2.0, 3.0]}
    torch.save({"model": STATE, "provenance": record}, tmp_path / "a.pth")
    torch.save({"model": STATE, "provenance": record}, tmp_path / "l.pth", _use_new_zipfile_serialization=False)
    torch.save(STATE, tmp_path / "none.pth")
    assert read_provenance(tmp_path / "a.pth") == record
    assert read_provenance(tmp_path / "l.pth") == record
    assert read_provenance(tmp_path / "none.pth") == {}
