"""The steps as Python functions: typed results, one process, twice."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from clop_det import api
from clop_det.engine.precision import use_official_settings
from clop_det.errors import UserError
from clop_det.files import read_json
from tests.detection.runs import CONFIG


def pairs(words: list[str]) -> dict[str, str]:
    return dict(zip(words[::2], words[1::2], strict=True))


def test_from_images_to_a_detector_twice_in_one_interpreter(
    crops_root: Path, tiny_options: list[str], tmp_path: Path
) -> None:
    options = {"CLASSIFICATION.ROOT": crops_root, "CLASSIFICATION.IMAGE_SIZE": 32, "SOLVER.MAX_ITER": 2}
    options |= {"SOLVER.IMS_PER_BATCH": 4, "MODEL.DEVICE": "cpu", "LOSS.NAME": "clop", "LABELS.FRACTION": 0.5}
    options |= {"DATALOADER.NUM_WORKERS": 0}
    runs = [
        api.pretrain(
            "pretrain/resnet18_digits.yaml", {**options, "OUTPUT_DIR": tmp_path / name, "SOLVER.WARMUP_ITERS": 0}
        )
        for name in ("a", "b")
    ]
    assert runs[0].figures == runs[1].figures
    assert runs[0].provenance["seed"] == 0
    report = api.convert(runs[0].weights, tmp_path / "converted.pth")
    assert report.worst_error < 1e-4
    words = {**pairs(tiny_options), "OUTPUT_DIR": str(tmp_path / "detector")}
    words["MODEL.WEIGHTS"] = str(tmp_path / "converted.pth")
    detector = api.finetune(CONFIG, [word for pair in words.items() for word in pair])
    assert detector.weights.is_file()
    cfg = api.read(CONFIG, [word for pair in words.items() for word in pair])
    again = api.evaluate(cfg, {"MODEL.WEIGHTS": detector.weights, "OUTPUT_DIR": tmp_path / "again"})
    assert again.figures["bbox/AP"] == pytest.approx(detector.figures["bbox/AP"])
    with pytest.raises(UserError, match="already holds this run"):
        api.finetune(CONFIG, [word for pair in words.items() for word in pair])


def test_a_seed_is_drawn_recorded_and_kept(tiny_options: list[str], tmp_path: Path) -> None:
    words = [*tiny_options, "OUTPUT_DIR", str(tmp_path / "run"), "SEED", "-1", "SOLVER.MAX_ITER", "1"]
    drawn = api.finetune(CONFIG, words).provenance["seed"]
    assert drawn >= 0
    assert f"SEED: {drawn}\n" in (tmp_path / "run" / "config.yaml").read_text()
    api.finetune(CONFIG, words, launch=api.Launch(resume=True))
    assert read_json(tmp_path / "run" / "results.json")["seed"] == drawn
    with pytest.raises(UserError, match="each of several processes would draw its own"):
        api.finetune(CONFIG, words, launch=api.Launch(num_machines=2))


def test_weights_with_a_guess_and_configs_with_code_have_a_remedy(
    tiny_options: list[str], finished: Path, tmp_path: Path
) -> None:
    weights = f"{finished / 'model_final.pth'}?matching_heuristics=True"
    with pytest.raises(UserError, match="Leave it out, after clop-det convert"):
        api.finetune(CONFIG, [*tiny_options, "MODEL.WEIGHTS", weights, "OUTPUT_DIR", str(tmp_path / "run")])
    with pytest.raises(UserError, match="!!python tag would run code; write what it computes"):
        api.read("COCO-Detection/retinanet_R_50_FPN_1x.yaml")


def test_a_zoo_config_runs_by_its_name(tiny_options: list[str], tmp_path: Path) -> None:
    words = [*tiny_options, "OUTPUT_DIR", str(tmp_path / "run"), "SOLVER.MAX_ITER", "1", "MODEL.WEIGHTS", ""]
    words += ["MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64", "MODEL.RESNETS.NORM", "BN"]
    words += ["MODEL.ROI_HEADS.NUM_CLASSES", "3"]
    words += ["MODEL.BACKBONE.FREEZE_AT", "0", "SOLVER.STEPS", "[]", "PROBE.ENABLED", "False"]
    run = api.finetune("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml", words)
    assert "bbox/AP" in run.figures


def test_official_settings_are_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    before = torch.get_float32_matmul_precision()
    cfg = api.read(CONFIG, ["CUDNN_BENCHMARK", "True"])
    cfg.defrost()
    cfg.FLOAT32_PRECISION = "high"
    try:
        use_official_settings(cfg)
        assert torch.backends.cudnn.benchmark
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
