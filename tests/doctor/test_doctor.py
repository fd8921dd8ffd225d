"""Each thing that can be wrong before a run, put wrong one at a time."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clop_det.commands.doctor import main
from clop_det.conversion.convert import convert_checkpoint
from tests.conversion.samples import random_network, write_sample
from tests.doctor.runs import CONFIG, bad_in, diagnosed, pairs_of


def test_a_healthy_run(root: Path, weights: Path, tmp_path: Path):
    found = diagnosed(pairs_of(root, weights, tmp_path))
    assert bad_in(found) == {}
    assert "100 of 100" in found["tensors"][0].message
    assert "6 images, 6 boxes" in found["data doctor_train"][0].message
    assert "loss clop" in found["weights"][0].message
    assert not (tmp_path / "run").exists(), "the doctor writes nothing"


def test_random_initialisation_is_healthy_too(root: Path, tmp_path: Path):
    assert bad_in(diagnosed(pairs_of(root, "", tmp_path))) == {}


@pytest.mark.parametrize(
    ("key", "value", "check", "status", "words"),
    [
        ("INPUT.FORMAT", "BGR", "channel order", "warn", "set INPUT.FORMAT RGB"),
        ("MODEL.PIXEL_MEAN", [0.0, 0.0, 0.0], "pixel mean", "error", "set MODEL.PIXEL_MEAN [123.675, 116.28, 103.53]"),
        ("MODEL.PIXEL_MEAN", [103.53, 116.28, 123.675], "pixel mean", "warn", "123.675"),
        ("MODEL.PIXEL_STD", [1.0, 1.0, 1.0], "pixel std", "warn", "58.395"),
        ("MODEL.RESNETS.STRIDE_IN_1X1", True, "stride", "warn", "set MODEL.RESNETS.STRIDE_IN_1X1 False"),
        ("MODEL.RESNETS.DEPTH", 34, "depth", "error", "set MODEL.RESNETS.DEPTH 18"),
        ("MODEL.RESNETS.WIDTH_PER_GROUP", 128, "width of a group", "error", "set MODEL.RESNETS.WIDTH_PER_GROUP 64"),
        ("MODEL.RESNETS.RES2_OUT_CHANNELS", 256, "width of res2", "error", "set MODEL.RESNETS.RES2_OUT_CHANNELS 64"),
        ("MODEL.RESNETS.NORM", "GN", "norm", "error", "set MODEL.RESNETS.NORM BN"),
        ("MODEL.RESNETS.NORM", "FrozenBN", "norm", "warn", "SyncBN"),
        ("MODEL.BACKBONE.FREEZE_AT", 2, "frozen layers", "warn", "FREEZE_AT 0"),
        ("MODEL.ROI_HEADS.NUM_CLASSES", 20, "data", "error", "20"),
        ("DATASETS.TRAIN", ("nothing",), "data", "error", "nothing"),
        ("DATASETS.TEST", ("doctor_train",), "data", "warn", "other images"),
        ("CLASSIFICATION.ROOT", "/nowhere", "probes", "error", "/nowhere"),
        ("SOLVER.BASE_LR", 0.02, "learning rate", "warn", "set SOLVER.BASE_LR 0.005"),
        ("SOLVER.STEPS", (50000,), "steps", "warn", "30000"),
        ("SOLVER.WARMUP_ITERS", 50000, "warm-up", "warn", "never ends"),
        ("SOLVER.MAX_ITER", 2, "length", "warn", "SOLVER.MAX_ITER 18"),
        ("TEST.COCO_BACKEND", "foo", "COCO backend", "error", "foo"),
        ("SEED", -3, "ranges", "error", "SEED is -3"),
        ("SOLVER.IMS_PER_BATCH", 0, "ranges", "error", "SOLVER.IMS_PER_BATCH is 0"),
        ("SOLVER.PRECISION", "fp8", "ranges", "error", "fp8"),
        ("DATASETS.TRAIN_SPLIT_FILE", "/nope", "training images", "error", "/nope"),
        ("MODEL.DEVICE", "gpu", "device", "error", "gpu"),
        ("MODEL.WEIGHTS", str(Path(__file__).parent), "weights", "error", "is a folder. Convert it"),
        ("MODEL.WEIGHTS", "missing.pth", "weights", "error", "missing.pth"),
        ("MODEL.WEIGHTS", "detectron2://x.pkl", "weights", "warn", "download"),
    ],
)
def test_one_thing_wrong(
    key: str, value: Any, check: str, status: str, words: str, root: Path, weights: Path, tmp_path: Path
):
    found = diagnosed(pairs_of(root, weights, tmp_path, **{key.replace(".", "__"): value}))
    bad = [finding for finding in found[check] if finding.status != "ok"]
    assert [finding.status for finding in bad] == [status]
    assert words in f"{bad[0].message} {bad[0].remedy}"


def test_the_rate_of_another_optimiser_is_not_compared_with_the_recipe_of_sgd(
    root: Path, weights: Path, tmp_path: Path
) -> None:
    found = diagnosed(pairs_of(root, weights, tmp_path, SOLVER__OPTIMIZER="AdamW", SOLVER__BASE_LR=0.0001))
    assert "learning rate" not in found


def test_frozen_layers_without_weights_are_an_error(root: Path, tmp_path: Path):
    found = diagnosed(pairs_of(root, "", tmp_path, MODEL__BACKBONE__FREEZE_AT=2, MODEL__RESNETS__NORM="FrozenBN"))
    assert bad_in(found) == {"frozen layers": "error"}
    assert "FREEZE_AT 0 and NORM BN" in found["frozen layers"][0].message


def test_c4_on_a_shallow_network(root: Path, weights: Path, tmp_path: Path):
    keys = {"MODEL__BACKBONE__NAME": "build_resnet_backbone", "MODEL__ROI_HEADS__NAME": "Res5ROIHeads",
            "MODEL__RESNETS__OUT_FEATURES": ["res4"], "MODEL__ROI_HEADS__IN_FEATURES": ["res4"],
            "MODEL__RPN__IN_FEATURES": ["res4"]}  # fmt: skip
    assert bad_in(diagnosed(pairs_of(root, weights, tmp_path, **keys)))["backbone"] == "error"


def test_unconverted_weights_are_recognised_and_still_compared(root: Path, tmp_path: Path):
    path = write_sample("MoCo v2", random_network("resnet18"), tmp_path)
    found = diagnosed(pairs_of(root, path, tmp_path, MODEL__RESNETS__DEPTH=34))
    assert "clop-det convert" in found["weights"][0].remedy
    assert "moco" in found["weights"][0].message
    assert found["depth"][0].status == "error"
    assert found["tensors"][0].status == "error"


def test_cifar_stem(root: Path, tmp_path: Path):
    torch.save(random_network("resnet18", stem="cifar").state_dict(), tmp_path / "in.pth")
    assert bad_in(diagnosed(pairs_of(root, tmp_path / "in.pth", tmp_path)))["stem"] == "error"
    convert_checkpoint(tmp_path / "in.pth", tmp_path / "d2.pth", verify=False, allow_stem_reinit=True)
    found = diagnosed(pairs_of(root, tmp_path / "d2.pth", tmp_path))
    assert found["stem"][0].status == "warn"
    assert found["proof"][0].status == "warn"
    assert "all but the stem's" in found["tensors"][0].message


def test_damaged_weights(root: Path, weights: Path, tmp_path: Path):
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bad.pth").write_bytes(data)
    found = diagnosed(pairs_of(root, tmp_path / "bad.pth", tmp_path))
    assert bad_in(found) == {"weights": "error"}
    assert "damaged" in found["weights"][0].message


def test_a_missing_image_file(root: Path, weights: Path, tmp_path: Path):
    hidden = (root / "images" / "3.png").rename(root / "hidden.png")
    try:
        found = diagnosed(pairs_of(root, weights, tmp_path))
        assert "3.png" in found["data doctor_train"][0].message
        assert found["data doctor_train"][0].status == "error"
    finally:
        hidden.rename(root / "images" / "3.png")


def test_several_processes(root: Path, weights: Path, tmp_path: Path):
    found = diagnosed(pairs_of(root, weights, tmp_path, SOLVER__REFERENCE_WORLD_SIZE=2), processes=4)
    assert "SOLVER.IMS_PER_BATCH 4 -> 8" in found["scaling"][0].message
    assert "SOLVER.BASE_LR 0.005 -> 0.01" in found["scaling"][0].message
    assert found["norm"][0].status == "warn", "BN over one image a process"
    odd = diagnosed(pairs_of(root, weights, tmp_path, MODEL__RESNETS__NORM="naiveSyncBN"), processes=3)
    assert "Set SOLVER.IMS_PER_BATCH 6" in odd["batch"][0].message


def test_images_a_process_are_those_of_the_scaled_batch(root: Path, weights: Path, tmp_path: Path):
    keys = {"SOLVER__REFERENCE_WORLD_SIZE": 8, "SOLVER__IMS_PER_BATCH": 16, "SOLVER__BASE_LR": 0.02}
    found = diagnosed(pairs_of(root, weights, tmp_path, **keys), processes=2)
    assert "BN over 2 images a process" in found["norm"][0].message
    assert bad_in(found) == {"norm": "warn"}


def test_the_length_counts_the_chosen_images(root: Path, weights: Path, tmp_path: Path):
    keys = {"DATASETS__TRAIN_FRACTION": 0.5, "SOLVER__MAX_ITER": 100, "SOLVER__STEPS": ()}
    found = diagnosed(pairs_of(root, weights, tmp_path, **keys))
    assert "training on 3 of 6 images" in found["training images"][0].message
    assert "100 iterations of 4 see 3 images 133.3 times" in found["length"][0].message


def test_caffe2_names_are_as_good_as_training_takes_them(root: Path, tmp_path: Path):
    (tmp_path / "R.pkl").write_bytes(pickle.dumps({"res2_0_branch2a_w": np.zeros((64, 64, 3, 3), np.float32)}))
    found = diagnosed(pairs_of(root, tmp_path / "R.pkl", tmp_path))
    assert found["weights"][0].status == "warn"
    assert "Caffe2" in found["weights"][0].message
    assert "conventions" not in found, "they cannot be converted"


def test_command_exit_codes_and_json(root: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--config-file", CONFIG]
    assert main([*arguments, "--num-gpus", "0", *pairs_of(root, weights, tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(("ok ", "warn ", "error ")) for line in lines[:-1])
    assert lines[-1].startswith("0 error(s), 0 warning(s)")
    assert main([*arguments, *pairs_of(root, weights, tmp_path, MODEL__RESNETS__DEPTH=50)]) == 1
    capsys.readouterr()
    assert main([*arguments, "--json", *pairs_of(root, weights, tmp_path, MODEL__RESNETS__DEPTH=50)]) == 1
    findings = json.loads(capsys.readouterr().out)
    assert {"check", "status", "message", "remedy"} == set(findings[0])
    assert any(finding["check"] == "depth" and finding["status"] == "error" for finding in findings)
