"""Each thing that can be wrong before a run, put wrong one at a time."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clop_det.commands.doctor import main
from clop_det.config.reading import read_config
from clop_det.conversion.convert import convert_checkpoint
from clop_det.doctor import diagnose
from clop_det.doctor import resources as resources_module
from clop_det.doctor.findings import Finding
from tests.conversion.samples import random_network, write_sample

_CONFIG = str(Path(__file__).resolve().parents[2] / "configs" / "detection" / "Base-R_18_FPN.yaml")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    convert_checkpoint(write_sample("clop_det", random_network("resnet18"), folder), folder / "d2.pth", verify=False)
    content = torch.load(folder / "d2.pth", weights_only=True)
    content["provenance"]["verified"] = True  # the proof has tests of its own
    torch.save(content, folder / "d2.pth")
    (folder / "d2.pth.sha256").unlink()
    return folder / "d2.pth"


def _picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO-style data set of eight images in two splits, and a folder of classes."""
    root = tmp_path_factory.mktemp("data")
    (root / "images").mkdir()
    (root / "annotations").mkdir()
    for split, start in (("train", 1), ("val", 7)):
        images = [{"id": i, "file_name": f"{i}.png", "height": 32, "width": 32} for i in range(start, start + 6)]
        boxes = [{"id": i["id"], "image_id": i["id"], "category_id": 1 + i["id"] % 2, "bbox": [4, 4, 9, 9], "area": 81,
                  "iscrowd": 0} for i in images]  # fmt: skip
        categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        content = {"images": images, "annotations": boxes, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
        for image in images:
            _picture(image["id"]).save(root / "images" / image["file_name"])
        for name in ("cat", "dog"):
            (root / "classes" / split / name).mkdir(parents=True)
            _picture(20 + start + len(name)).save(root / "classes" / split / name / "0.png")
    return root


def _pairs(root: Path, weights: Path | str, tmp_path: Path, **keys: Any) -> list[str]:
    register = [
        {"NAME": f"doctor_{split}", "LAYOUT": "coco", "ROOT": str(root), "SPLIT": split} for split in ("train", "val")
    ]
    values = {
        "MODEL.WEIGHTS": str(weights),
        "MODEL.DEVICE": "cpu",
        "OUTPUT_DIR": str(tmp_path / "run"),
        "DATASETS.REGISTER": register,
        "DATASETS.TRAIN": ("doctor_train",),
        "DATASETS.TEST": ("doctor_val",),
        "CLASSIFICATION.ROOT": str(root / "classes"),
        "SOLVER.IMS_PER_BATCH": 4,
        "SOLVER.BASE_LR": 0.005,
        "SOLVER.MAX_ITER": 40000,
        "SOLVER.STEPS": (30000,),
        "MODEL.ROI_BOX_HEAD.FC_DIM": 16,
        "DATALOADER.NUM_WORKERS": 0,  # containers with little shared memory run these tests, too
    } | {key.replace("__", "."): value for key, value in keys.items()}
    return [str(item) for pair in values.items() for item in pair]


def _diagnose(pairs: list[str], processes: int = 1) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in diagnose(read_config(_CONFIG, pairs), processes):
        found.setdefault(finding.check, []).append(finding)
    return found


def _bad(found: dict[str, list[Finding]]) -> dict[str, str]:
    return {check: f.status for check, findings in found.items() for f in findings if f.status != "ok"}


def test_a_healthy_run(root: Path, weights: Path, tmp_path: Path):
    found = _diagnose(_pairs(root, weights, tmp_path))
    assert _bad(found) == {}
    assert "100 of 100" in found["tensors"][0].message
    assert "6 images, 6 boxes" in found["data doctor_train"][0].message
    assert "loss clop" in found["weights"][0].message
    assert not (tmp_path / "run").exists(), "the doctor writes nothing"


def test_random_initialisation_is_healthy_too(root: Path, tmp_path: Path):
    assert _bad(_diagnose(_pairs(root, "", tmp_path))) == {}


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
        ("MODEL.WEIGHTS", "missing.pth", "weights", "error", "missing.pth"),
        ("MODEL.WEIGHTS", "detectron2://x.pkl", "weights", "warn", "download"),
    ],
)
def test_one_thing_wrong(
    key: str, value: Any, check: str, status: str, words: str, root: Path, weights: Path, tmp_path: Path
):
    found = _diagnose(_pairs(root, weights, tmp_path, **{key.replace(".", "__"): value}))
    bad = [finding for finding in found[check] if finding.status != "ok"]
    assert [finding.status for finding in bad] == [status]
    assert words in f"{bad[0].message} {bad[0].remedy}"


def test_frozen_layers_without_weights_are_an_error(root: Path, tmp_path: Path):
    found = _diagnose(_pairs(root, "", tmp_path, MODEL__BACKBONE__FREEZE_AT=2, MODEL__RESNETS__NORM="FrozenBN"))
    assert _bad(found) == {"frozen layers": "error"}
    assert "FREEZE_AT 0 and NORM BN" in found["frozen layers"][0].message


def test_c4_on_a_shallow_network(root: Path, weights: Path, tmp_path: Path):
    keys = {"MODEL__BACKBONE__NAME": "build_resnet_backbone", "MODEL__ROI_HEADS__NAME": "Res5ROIHeads",
            "MODEL__RESNETS__OUT_FEATURES": ["res4"], "MODEL__ROI_HEADS__IN_FEATURES": ["res4"],
            "MODEL__RPN__IN_FEATURES": ["res4"]}  # fmt: skip
    assert _bad(_diagnose(_pairs(root, weights, tmp_path, **keys)))["backbone"] == "error"


def test_unconverted_weights_are_recognised_and_still_compared(root: Path, tmp_path: Path):
    path = write_sample("MoCo v2", random_network("resnet18"), tmp_path)
    found = _diagnose(_pairs(root, path, tmp_path, MODEL__RESNETS__DEPTH=34))
    assert "clop-det convert" in found["weights"][0].remedy
    assert "moco" in found["weights"][0].message
    assert found["depth"][0].status == "error"
    assert found["tensors"][0].status == "error"


def test_cifar_stem(root: Path, tmp_path: Path):
    torch.save(random_network("resnet18", stem="cifar").state_dict(), tmp_path / "in.pth")
    assert _bad(_diagnose(_pairs(root, tmp_path / "in.pth", tmp_path)))["stem"] == "error"
    convert_checkpoint(tmp_path / "in.pth", tmp_path / "d2.pth", verify=False, allow_stem_reinit=True)
    found = _diagnose(_pairs(root, tmp_path / "d2.pth", tmp_path))
    assert found["stem"][0].status == "warn"
    assert found["proof"][0].status == "warn"
    assert "all but the stem's" in found["tensors"][0].message


def test_damaged_weights(root: Path, weights: Path, tmp_path: Path):
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bad.pth").write_bytes(data)
    found = _diagnose(_pairs(root, tmp_path / "bad.pth", tmp_path))
    assert _bad(found) == {"weights": "error"}
    assert "damaged" in found["weights"][0].message


def test_a_missing_image_file(root: Path, weights: Path, tmp_path: Path):
    hidden = (root / "images" / "3.png").rename(root / "hidden.png")
    try:
        found = _diagnose(_pairs(root, weights, tmp_path))
        assert "3.png" in found["data doctor_train"][0].message
        assert found["data doctor_train"][0].status == "error"
    finally:
        hidden.rename(root / "images" / "3.png")


def test_several_processes(root: Path, weights: Path, tmp_path: Path):
    found = _diagnose(_pairs(root, weights, tmp_path, SOLVER__REFERENCE_WORLD_SIZE=2), processes=4)
    assert "SOLVER.IMS_PER_BATCH 4 -> 8" in found["scaling"][0].message
    assert "SOLVER.BASE_LR 0.005 -> 0.01" in found["scaling"][0].message
    assert found["norm"][0].status == "warn", "BN over one image a process"
    odd = _diagnose(_pairs(root, weights, tmp_path, MODEL__RESNETS__NORM="naiveSyncBN"), processes=3)
    assert "Set SOLVER.IMS_PER_BATCH 6" in odd["batch"][0].message


def test_images_a_process_are_those_of_the_scaled_batch(root: Path, weights: Path, tmp_path: Path):
    keys = {"SOLVER__REFERENCE_WORLD_SIZE": 8, "SOLVER__IMS_PER_BATCH": 16, "SOLVER__BASE_LR": 0.02}
    found = _diagnose(_pairs(root, weights, tmp_path, **keys), processes=2)
    assert "BN over 2 images a process" in found["norm"][0].message
    assert _bad(found) == {"norm": "warn"}


def test_the_length_counts_the_chosen_images(root: Path, weights: Path, tmp_path: Path):
    keys = {"DATASETS__TRAIN_FRACTION": 0.5, "SOLVER__MAX_ITER": 100, "SOLVER__STEPS": ()}
    found = _diagnose(_pairs(root, weights, tmp_path, **keys))
    assert "training on 3 of 6 images" in found["training images"][0].message
    assert "100 iterations of 4 see 3 images 133.3 times" in found["length"][0].message


def test_caffe2_names_are_as_good_as_training_takes_them(root: Path, tmp_path: Path):
    (tmp_path / "R.pkl").write_bytes(pickle.dumps({"res2_0_branch2a_w": np.zeros((64, 64, 3, 3), np.float32)}))
    found = _diagnose(_pairs(root, tmp_path / "R.pkl", tmp_path))
    assert found["weights"][0].status == "warn"
    assert "Caffe2" in found["weights"][0].message
    assert "conventions" not in found, "they cannot be converted"


def _gpus(monkeypatch: pytest.MonkeyPatch, count: int, capability: tuple[int, int] = (8, 0)) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80", "sm_90", "compute_120"])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")


def test_a_card_that_torch_has_no_kernels_for(
    root: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _gpus(monkeypatch, 1, (7, 0))
    found = _diagnose(_pairs(root, weights, tmp_path, MODEL__DEVICE="cuda"))
    assert _bad(found) == {"device": "error"}
    assert "Tesla V100 of compute capability 7.0" in found["device"][0].message


def test_a_card_that_is_not_used(root: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _gpus(monkeypatch, 1)
    assert _bad(_diagnose(_pairs(root, weights, tmp_path))) == {"device": "warn"}


def test_fp16_on_a_gpu_is_healthy(root: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _gpus(monkeypatch, 1)
    found = _diagnose(_pairs(root, weights, tmp_path, MODEL__DEVICE="cuda", SOLVER__AMP__ENABLED=True))
    assert _bad(found) == {}
    assert "100 of 100" in found["tensors"][0].message
    monkeypatch.undo()
    without_gpu = _diagnose(_pairs(root, weights, tmp_path, SOLVER__AMP__ENABLED=True))
    assert _bad(without_gpu) == {"precision": "error"}


def test_gpus_are_counted_a_machine(root: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _gpus(monkeypatch, 2)
    cfg = read_config(_CONFIG, _pairs(root, weights, tmp_path, MODEL__DEVICE="cuda", MODEL__RESNETS__NORM="SyncBN"))
    for machines, statuses in ((2, ["ok"]), (1, ["error"])):
        found = diagnose(cfg, processes=4, machines=machines)
        assert [finding.status for finding in found if finding.check == "device"] == statuses
        assert [finding.status for finding in found if finding.check == "tensors"] == ["ok"], "SyncBN builds on a CPU"


def test_cpu_processes_that_would_meet_over_nccl(
    root: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = _diagnose(_pairs(root, weights, tmp_path, MODEL__RESNETS__NORM="naiveSyncBN"), processes=2)
    assert _bad(found) == {"device": "error"}
    assert "NCCL" in found["device"][0].message


@pytest.mark.parametrize(("free", "status"), [(10**6, "error"), (10**9, "warn"), (10**12, "ok")])
def test_disk(free: int, status: str, root: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr(resources_module.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(resources_module, "_DETECTOR_BYTES", 20 << 20)
    assert _diagnose(_pairs(root, weights, tmp_path))["disk"][0].status == status


def test_gpu_that_is_not_there(root: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = _diagnose(_pairs(root, weights, tmp_path, MODEL__DEVICE="cuda"))
    assert _bad(found) == {"device": "error"}


def test_command_exit_codes_and_json(root: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--config-file", _CONFIG]
    assert main([*arguments, "--num-gpus", "0", *_pairs(root, weights, tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(("ok ", "warn ", "error ")) for line in lines[:-1])
    assert lines[-1].startswith("0 error(s), 0 warning(s)")
    assert main([*arguments, *_pairs(root, weights, tmp_path, MODEL__RESNETS__DEPTH=50)]) == 1
    capsys.readouterr()
    assert main([*arguments, "--json", *_pairs(root, weights, tmp_path, MODEL__RESNETS__DEPTH=50)]) == 1
    findings = json.loads(capsys.readouterr().out)
    assert {"check", "status", "message", "remedy"} == set(findings[0])
    assert any(finding["check"] == "depth" and finding["status"] == "error" for finding in findings)
