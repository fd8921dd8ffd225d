"""Evaluation alone, and figures that are expected."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest
import torch

from clop_det.commands.train import main
from clop_det.errors import UserError
from clop_det.files import read_json
from tests.detection.runs import command


def test_eval_only_repeats_the_final_figures(finished: Path, tiny_options: list[str], tmp_path: Path) -> None:
    weights = str(finished / "model_final.pth")
    assert main(command(tiny_options, tmp_path / "eval", "--eval-only", MODEL__WEIGHTS=weights)) == 0
    again = read_json(tmp_path / "eval" / "evaluation.json")["metrics"]
    final = read_json(finished / "results.json")["metrics"]
    assert {key: pytest.approx(value) for key, value in final.items()} == again
    assert not (tmp_path / "eval" / "config.yaml").exists()


def spoiled_detector(finished: Path, path: Path, how: str) -> str:
    """The finished run's weights without its heads, or with those of a detector of one class."""
    content = torch.load(finished / "model_final.pth", weights_only=True)
    if how == "backbone":
        model = {key: value for key, value in content["model"].items() if key.startswith("backbone.bottom_up.")}
    else:
        model = content["model"]
        for key, rows in {"cls_score": 2, "bbox_pred": 4}.items():
            for part in ("weight", "bias"):
                name = f"roi_heads.box_predictor.{key}.{part}"
                model[name] = model[name][:rows].clone()
    torch.save({"model": model, "provenance": content["provenance"]}, path)
    return str(path)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("backbone", r"missing or of another shape: backbone\.fpn_lateral2\.weight, .*--eval-only --resume"),
        ("classes", r"cls_score\.weight \(\(2, 16\) in the file, \(4, 16\) in the model\)"),
    ],
)
def test_eval_only_refuses_weights_that_leave_heads_random(
    finished: Path, tiny_options: list[str], tmp_path: Path, how: str, message: str
) -> None:
    weights = spoiled_detector(finished, tmp_path / "weights.pth", how)
    with pytest.raises(UserError, match=message):
        main(command(tiny_options, tmp_path / "eval", "--eval-only", MODEL__WEIGHTS=weights))
    assert not (tmp_path / "eval" / "evaluation.json").exists()


@pytest.mark.parametrize(("noted", "kept"), [("SEED: 4711\n", True), ("SEED: -1\n", False), (None, False)])
def test_an_evaluation_keeps_the_seed_that_the_run_has_drawn(
    finished: Path,
    tiny_options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    noted: str | None,
    kept: bool,
) -> None:
    seeds: list[int] = []
    monkeypatch.setattr("clop_det.api.launch_workers", lambda worker, cfg, how: seeds.append(cfg.SEED))
    monkeypatch.setattr("secrets.randbelow", lambda limit: 11)
    folder = tmp_path / "run"
    if noted:
        folder.mkdir()
        (folder / "config.yaml").write_text(noted)
    with contextlib.suppress(FileNotFoundError):  # no evaluation.json: nothing was evaluated
        main(command(tiny_options, folder, "--eval-only", MODEL__WEIGHTS=finished / "model_final.pth", SEED=-1))
    assert seeds == [4711 if kept else 11]


def test_eval_only_with_resume_takes_the_last_checkpoint_of_the_folder(
    finished: Path, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("model_final.pth*"))
    weights = spoiled_detector(finished, tmp_path / "weights.pth", "backbone")
    assert main(command(tiny_options, folder, "--eval-only", "--resume", MODEL__WEIGHTS=weights)) == 0
    found = read_json(folder / "evaluation.json")
    assert found["weights"] == str(folder / "model_0000005.pth")
    assert found["metrics"] == pytest.approx(read_json(finished / "results.json")["metrics"])
    assert "model_0000005.pth after 6 iterations\n" in capsys.readouterr().out
    with pytest.raises(UserError, match="holds none"):
        main(command(tiny_options, tmp_path / "empty", "--eval-only", "--resume", MODEL__WEIGHTS=weights))


def test_expected_results_are_verified_and_a_miss_fails_the_run(
    finished: Path, tiny_options: list[str], tmp_path: Path
) -> None:
    weights, figures = str(finished / "model_final.pth"), read_json(finished / "results.json")["metrics"]
    right = [
        ["bbox", "AP", figures["bbox/AP"], 0.01],
        ["probe", "object_knn_top1", figures["probe/object_knn_top1"], 0],
    ]
    words = command(tiny_options, tmp_path / "run", "--eval-only", MODEL__WEIGHTS=weights)
    assert main([*words, "TEST.EXPECTED_RESULTS", str(right)]) == 0
    for wrong in (["bbox", "AP", figures["bbox/AP"] + 1, 0.5], ["segm", "AP", 0, 100]):
        with pytest.raises(SystemExit) as failure:
            main([*words, "TEST.EXPECTED_RESULTS", str([*right, wrong])])
        assert failure.value.code == 1
        assert (tmp_path / "run" / "evaluation.json").is_file()
