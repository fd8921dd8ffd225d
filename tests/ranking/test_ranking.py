from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import torchvision

from clop_det.checkpoints.integrity import sidecar_of
from clop_det.commands.main import main
from clop_det.errors import UserError
from clop_det.ranking.calibration_table import write_table
from clop_det.ranking.encoding import Encoder
from clop_det.ranking.ranking import rank
from tests.ranking.stored import stored


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    paths = []
    for seed, name in enumerate(("one", "other")):
        torch.manual_seed(seed)
        paths.append(folder / f"{name}.pth")
        torch.save(torchvision.models.resnet18().state_dict(), paths[-1])
    return paths


@pytest.fixture
def words(scenes_root: Path, checkpoints: list[Path], tmp_path: Path) -> list[str]:
    given = ["--data", str(scenes_root), "--output", str(tmp_path / "out"), "--boxes", "400", "--size", "32"]
    return ["rank", *map(str, checkpoints), *given]


def test_a_ranking_is_written_and_the_same_command_measures_nothing_again(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert "random resnet18" in out
    assert "one: conversion and proof" in err
    assert (tmp_path / "out" / "ranking.svg").read_text().startswith("<?xml")
    rows = (tmp_path / "out" / "ranking.csv").read_text().splitlines()
    assert len(rows) == 4
    assert rows[0].startswith("checkpoint,score,behind,uncertain,seconds,early_ap,object_linear_top1")
    assert main(words) == 0
    again, err = capsys.readouterr()
    assert again == out
    assert err == ""
    assert "Rule: TransRate on boxes, chosen on 165 fine-tunings; scores less than" in out
    write_table(stored(), tmp_path / "calibration.csv")
    assert main([*words, "--calibration", str(tmp_path / "calibration.csv")]) == 0
    calibrated = capsys.readouterr().out
    assert "Rule: kNN on boxes, chosen on 32 fine-tunings; scores less than" in calibrated
    assert "LogME" not in calibrated.splitlines()[0]


def test_a_checkpoint_that_does_not_convert_is_named_and_left_out(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "linear.pth")
    assert main([*words[:1], str(tmp_path / "linear.pth"), *words[1:]]) == 1
    out = capsys.readouterr().out
    assert "left out: linear: " in out
    assert not (tmp_path / "out" / "converted" / "linear.pth").exists()


def test_the_sidecars_that_a_pattern_names_are_no_checkpoints(
    scenes_root: Path, checkpoints: list[Path], tmp_path: Path
) -> None:
    given = [*checkpoints, *map(sidecar_of, checkpoints)]
    found = rank(str(scenes_root), given, tmp_path / "out", boxes=400, side=32)
    assert sorted(found.files) == ["one", "other"]
    assert found.left_out == {}


def test_a_spent_budget_leaves_checkpoints_for_the_next_call(
    scenes_root: Path, checkpoints: list[Path], tmp_path: Path
) -> None:
    found = rank(str(scenes_root), checkpoints, tmp_path / "out", boxes=400, side=32, budget=1e-6)
    assert found.waiting == ["other"]
    assert found.verdict == "one is the only checkpoint that could be measured."


def test_another_file_of_that_name_is_measured_anew(scenes_root: Path, checkpoints: list[Path], tmp_path: Path) -> None:
    shutil.copy(checkpoints[0], tmp_path / "x.pth")
    first = rank(str(scenes_root), [tmp_path / "x.pth"], tmp_path / "out", boxes=400, side=32)
    shutil.copy(checkpoints[1], tmp_path / "x.pth")
    (tmp_path / "x.pth.sha256").unlink()
    second = rank(str(scenes_root), [tmp_path / "x.pth"], tmp_path / "out", boxes=400, side=32)
    assert first.measured["x"] != second.measured["x"]
    assert first.measured["random resnet18"] == second.measured["random resnet18"]
    kept = json.loads((tmp_path / "out" / "measured" / "x.json").read_text())
    assert kept["figures"] == second.measured["x"].figures


def test_features_are_those_of_the_source_network(checkpoints: list[Path], tmp_path: Path) -> None:
    """Against torchvision's own network, fed as its users feed it."""
    from clop_det.conversion.convert import convert_checkpoint
    from clop_det.ranking.objects import Objects

    convert_checkpoint(checkpoints[0], tmp_path / "c.pth")
    source = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (6, 3, 64, 64), generator=source, dtype=torch.uint8)
    seen = Objects(pixels, pixels.flip(3), torch.zeros(6, 4), torch.arange(6), torch.arange(6))
    found = Encoder(tmp_path / "c.pth").features(seen, 0, lambda done, total: None)
    network = torchvision.models.resnet18()
    network.load_state_dict(torch.load(checkpoints[0], weights_only=True))
    network.fc = torch.nn.Identity()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        expected = network.eval()((pixels / 255 - mean) / std)
    torch.testing.assert_close(found.crops, expected, rtol=1e-3, atol=1e-4)
    assert found.views.shape == (6, 8, 512)
    assert found.grids.shape == (6, 16 * 512)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"boxes": 10}, "must be at least 40, 32 and 0"),
        ({"checkpoints": []}, "no checkpoint"),
        ({"data": "nowhere.yaml"}, "no config nowhere.yaml"),
    ],
)
def test_bad_input_is_one_error(
    change: dict[str, object], said: str, scenes_root: Path, checkpoints: list[Path], tmp_path: Path
) -> None:
    given = {"data": str(scenes_root), "checkpoints": checkpoints, "output": tmp_path, **change}
    with pytest.raises(UserError, match=said):
        rank(**given)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="named twice"):
        rank(str(scenes_root), [checkpoints[0], checkpoints[0]], tmp_path)
