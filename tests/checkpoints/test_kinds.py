"""Files that are no torch file but sound, folders, shards, and harmless objects beside the weights."""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import sys
import tarfile
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from clop_det.checkpoints.folders import parts_of
from clop_det.checkpoints.integrity import note_digest, sidecar_of, why_damaged
from clop_det.checkpoints.reading import read_checkpoint
from clop_det.checkpoints.stand_ins import inert_in
from clop_det.conversion.contents import flatten
from clop_det.errors import UserError
from clop_det.files import sha256_of

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "b.weight": torch.ones(4)}


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inner.pth", b"x")


def _tar(path: Path) -> None:
    path.with_suffix(".inner").write_bytes(b"x")
    with tarfile.open(path, "w") as archive:
        archive.add(path.with_suffix(".inner"), "inner.pth")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (_zip, "zip archive that holds inner.pth. Unpack"),
        (_tar, "tar archive that holds inner.pth. Unpack"),
        (lambda path: path.write_bytes(b"\x1f\x8b" + bytes(20)), "gzip.*Unpack"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(20)), "HDF5"),
        (lambda path: path.write_bytes(b"\x08\x08\x12\x07pytorch" + bytes(20)), "ONNX"),
        (lambda path: torch.save(STATE, path, _use_new_zipfile_serialization=False, pickle_protocol=4), "protocol"),
        (lambda path: np.savez(path.open("wb"), a=np.array([{}], dtype=object)), "NumPy archive.*Nothing in it was"),
    ],
)  # fmt: skip
def test_other_kinds_of_files_are_called_what_they_are(write: Any, words: str, tmp_path: Path):
    write(tmp_path / "a.bin")
    with pytest.raises(UserError, match=words) as caught:
        read_checkpoint(tmp_path / "a.bin")
    assert "error page" not in str(caught.value)


def test_a_numpy_archive_is_read(tmp_path: Path):
    np.savez(tmp_path / "a.npz", **{name: tensor.numpy() for name, tensor in STATE.items()})
    found = flatten(read_checkpoint(tmp_path / "a.npz"), tmp_path / "a.npz").tensors
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


def _shards(folder: Path) -> Path:
    named = {}
    for number, (name, tensor) in enumerate(STATE.items(), start=1):
        named[name] = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: tensor}, str(folder / named[name]))
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": named}))
    return index


def test_shards_are_joined_by_their_index_and_by_their_folder(tmp_path: Path):
    index = _shards(tmp_path)
    for path in (index, tmp_path):
        found = read_checkpoint(path)
        assert found.keys() == STATE.keys()
        assert all(torch.equal(found[name], STATE[name]) for name in STATE)
    before = parts_of(index).digest
    with pytest.raises(UserError, match="one of 2 shards"):
        read_checkpoint(tmp_path / "model-00001-of-00002.safetensors")
    save_file({"a.weight": STATE["a.weight"] + 1}, str(tmp_path / "model-00001-of-00002.safetensors"))
    assert parts_of(index).digest != before


@pytest.mark.parametrize("shard", ["../a.safetensors", "missing.safetensors"])
def test_an_index_names_only_files_beside_it(shard: str, tmp_path: Path):
    save_file(STATE, str(tmp_path / "a.safetensors"))
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "x.index.json").write_text(json.dumps({"weight_map": {"a.weight": shard}}))
    with pytest.raises(UserError, match="no file beside it"):
        read_checkpoint(folder)


def test_an_index_that_promises_too_much(tmp_path: Path):
    index = _shards(tmp_path)
    content = json.loads(index.read_text())
    content["weight_map"]["c.weight"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"1 tensors.*c\.weight"):
        read_checkpoint(index)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a.weight": STATE["a.weight"], "c.weight": torch.ones(2)}, r"1 tensors that .* does not name \(c\.weight\)"),
        ([STATE["a.weight"]], "holds a list, not a shard"),
        ({}, r"names 1 tensors that its shards do not hold \(a\.weight\)"),
    ],
)
def test_shards_that_are_not_what_the_index_says(content: Any, words: str, tmp_path: Path):
    torch.save(content, tmp_path / "a.bin")
    (tmp_path / "x.index.json").write_text(json.dumps({"weight_map": {"a.weight": "a.bin"}}))
    with pytest.raises(UserError, match=words):
        read_checkpoint(tmp_path)


def test_folders_with_one_several_and_other_checkpoints(tmp_path: Path):
    torch.save(STATE, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path).keys() == STATE.keys()
    torch.save(STATE, tmp_path / "b.pth")
    with pytest.raises(UserError, match=r"several checkpoints: a\.pth, b\.pth"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("legacy", [False, True])
def test_harmless_objects_beside_weights_are_left_out(
    legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):  # fmt: skip
    module = types.ModuleType("somebodys_code")
    config = type("Config", (), {"__module__": "somebodys_code"})
    module.Config = config  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "somebodys_code", module)
    made = config()
    made.value = 3
    log: Any = collections.defaultdict(list)
    log["loss"].append(0.5)
    beside = {"path": Path("/data"), "when": datetime.datetime(2024, 1, 1), "cfg": made, "n": np.float64(0.7),
              "log": log, "array": np.arange(3.0), "objects": np.array([{}], dtype=object)}  # fmt: skip
    torch.save({"state_dict": STATE, **beside}, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    monkeypatch.delitem(sys.modules, "somebodys_code")
    read = read_checkpoint(tmp_path / "a.pth")
    assert (read["n"], read["log"], read["array"].tolist()) == (0.7, {"loss": [0.5]}, [0.0, 1.0, 2.0])
    assert "somebodys_code" not in sys.modules
    left_out = inert_in(read)
    assert {"somebodys_code.Config", "datetime.datetime"} <= set(left_out)
    contents = flatten(read, tmp_path / "a.pth")
    assert contents.tensors.keys() == {"state_dict.a.weight", "state_dict.b.weight", "array"}
    assert "somebodys_code.Config" in contents.notes[0]
    with pytest.raises(UserError, match="pickled objects in .*cfg.*somebodys_code"):
        read_checkpoint(tmp_path / "a.pth", trust_pickle=True)


@pytest.mark.parametrize("legacy", [False, True])
def test_containers_of_other_classes_beside_weights(
    legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):  # fmt: skip
    module = types.ModuleType("somebodys_code")
    for name, base in (("Settings", dict), ("State", collections.OrderedDict), ("Items", list)):
        setattr(module, name, type(name, (base,), {"__module__": "somebodys_code"}))
    monkeypatch.setitem(sys.modules, "somebodys_code", module)
    settings = module.Settings(model="resnet18", inner=module.Settings(mean=[0.5] * 3), acc=np.float64(0.5))  # type: ignore[attr-defined]
    settings.attribute = 3
    content = {
        "state_dict": module.State(STATE), "args": settings, "items": module.Items([1]),  # type: ignore[attr-defined]
        "space": argparse.Namespace(lr=np.float32(0.5), path=Path("/data")), "last": collections.deque([1]),
        "user": collections.UserDict(a=1), "yaml": OmegaConf.create({"a": [1, {"b": 2}]}),
    }  # fmt: skip
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    monkeypatch.delitem(sys.modules, "somebodys_code")
    read = read_checkpoint(tmp_path / "a.pth")
    assert type(read["args"]) is dict
    assert read["args"] == {"model": "resnet18", "inner": {"mean": [0.5] * 3}, "acc": 0.5}
    contents = flatten(read, tmp_path / "a.pth")
    assert {name: tensor.tolist() for name, tensor in contents.tensors.items()} == {
        f"state_dict.{name}": tensor.tolist() for name, tensor in STATE.items()
    }
    assert (contents.facts["args.model"], contents.facts["space.lr"]) == ("resnet18", 0.5)
    left_out = inert_in(read)
    assert {"somebodys_code.Items", "collections.deque", "omegaconf.dictconfig.DictConfig"} <= set(left_out)
    assert not {"somebodys_code.Settings", "somebodys_code.State"} & set(left_out)


def test_numbers_of_numpy_as_keys(tmp_path: Path):
    torch.save({"state_dict": STATE, "best": {np.int64(3): 1.0, ("a", np.int64(4)): 2.0}}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth")["best"] == {3: 1.0, ("a", 4): 2.0}


def test_containers_of_other_classes_that_name_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module = types.ModuleType("somebodys_code")
    module.Settings = type("Settings", (dict,), {"__module__": "somebodys_code"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "somebodys_code", module)
    content: Any = []
    for _ in range(40):
        content = module.Settings(a=content, b=content)  # type: ignore[attr-defined]
    torch.save({"w": STATE["a.weight"], "x": content}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="names more than 2,000,000 values"):
        read_checkpoint(tmp_path / "a.pth")


def test_a_whole_model_without_trust_is_called_so(tmp_path: Path):
    for content in (torch.nn.Linear(2, 2), {"model": torch.nn.Linear(2, 2)}):
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(UserError, match=r"whole pickled model \(torch.*Linear\).*--trust-pickle"):
            flatten(read_checkpoint(tmp_path / "a.pth"), tmp_path / "a.pth")


def test_float8_is_widened(tmp_path: Path):
    tensor = torch.tensor([0.5, -1.75, 3.0])
    found = flatten({"w": tensor.to(torch.float8_e4m3fn)}, tmp_path)
    assert torch.equal(found.tensors["w"], tensor)
    assert "float8" in found.notes[0]


@pytest.mark.parametrize(
    "form", ["{digest}  a.pth", "{digest} *a.pth", "SHA256 (a.pth) = {digest}", "{digest}", "both"]
)
def test_digests_of_gnu_and_bsd(form: str, tmp_path: Path):
    path = tmp_path / "a.pth"
    torch.save(STATE, path)
    other = "0" * 64
    text = f"SHA256 (b.pth) = {other}\nSHA256 (a.pth) = {{digest}}" if form == "both" else form
    sidecar_of(path).write_text(text.format(digest=sha256_of(path)) + "\n")
    assert why_damaged(path) is None
    sidecar_of(path).write_text(text.format(digest="1" * 64) + "\n")
    assert "SHA-256" in str(why_damaged(path))


def test_a_digest_noted_on_first_sight_finds_a_later_change(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    save_file(STATE, str(path))
    assert note_digest(path, sha256_of(path))
    assert why_damaged(path) is None
    save_file({**STATE, "b.weight": torch.zeros(4)}, str(path))
    assert note_digest(path, sha256_of(path)), "an older digest stays"
    with pytest.raises(UserError, match="SHA-256"):
        read_checkpoint(path)
