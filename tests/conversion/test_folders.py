"""Sources that are folders or indices: where the output may lie, and the way back from one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn

from clop_det.checkpoints.folders import parts_of
from clop_det.checkpoints.reading import read_provenance
from clop_det.conversion.convert import convert_checkpoint
from clop_det.conversion.export import export_checkpoint
from clop_det.errors import UserError
from tests.conversion.samples import backbone_state


@pytest.fixture
def folder(torchvision_file: Path, tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    shutil.copy(torchvision_file, tmp_path / "in" / "a.pth")
    return tmp_path / "in"


@pytest.mark.parametrize("name", ["a.pth", "out.pth"])
def test_an_output_inside_a_folder_that_is_the_source(name: str, folder: Path):
    before = (folder / "a.pth").read_bytes()
    for output in (folder / name, folder / ".." / "in" / name):
        with pytest.raises(UserError, match="the source itself|in the folder of the source"):
            convert_checkpoint(folder, output, verify=False)
    assert [file.name for file in folder.iterdir()] == ["a.pth"]
    assert (folder / "a.pth").read_bytes() == before


def test_an_output_that_is_a_shard_of_the_source(resnet18: nn.Module, tmp_path: Path):
    torch.save(backbone_state(resnet18), tmp_path / "part.pth")
    index = tmp_path / "x.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(backbone_state(resnet18), "part.pth")}))
    before = (tmp_path / "part.pth").read_bytes()
    with pytest.raises(UserError, match="the source itself"):
        convert_checkpoint(index, tmp_path / "part.pth", verify=False)
    assert (tmp_path / "part.pth").read_bytes() == before
    convert_checkpoint(index, tmp_path / "out.pth", verify=False)
    assert read_provenance(tmp_path / "out.pth")["source_sha256"] == parts_of(index).digest


def test_the_way_back_from_a_folder(converted_file: Path, resnet18: nn.Module, tmp_path: Path):
    (tmp_path / "d2").mkdir()
    shutil.copy(converted_file, tmp_path / "d2" / "model.pth")
    export_checkpoint(tmp_path / "d2", tmp_path / "back.safetensors", verify=False)
    record = read_provenance(tmp_path / "back.safetensors")
    assert (record["exported_from"], record["exported_from_sha256"]) == ("d2", parts_of(converted_file).digest)
    with pytest.raises(UserError, match="in the folder of the source"):
        export_checkpoint(tmp_path / "d2", tmp_path / "d2" / "back.pth", verify=False)


def test_a_folder_of_torch_distributed_checkpoint(resnet18: nn.Module, tmp_path: Path):
    dcp.save({"model": resnet18.state_dict(), "epoch": 3}, checkpoint_id=tmp_path / "dcp", no_dist=True)
    report = convert_checkpoint(tmp_path / "dcp", tmp_path / "out.pth")
    assert (report.source, report.arch, report.mapped) == ("torchvision", "resnet18", 100)
    assert report.worst_error < 1e-5
    (tmp_path / "dcp" / "__0_0.distcp.sha256").write_text("0" * 64)
    with pytest.raises(UserError, match="SHA-256"):
        convert_checkpoint(tmp_path / "dcp", tmp_path / "out.pth")
