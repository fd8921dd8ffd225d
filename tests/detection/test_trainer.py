"""The whole chain of one room: train, evaluate, resume, stop, refuse; through the command line's own entry."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN
from detectron2.utils.events import EventStorage

from clop_det.commands.train import main
from clop_det.detection.evaluation import flatten, score
from clop_det.detection.stored import read_tested
from clop_det.detection.trainer import DetectionTrainer
from clop_det.engine.metrics import read_metrics
from clop_det.errors import UserError
from clop_det.files import read_json
from tests.detection.conftest import entries
from tests.detection.runs import command


def test_a_run_leaves_what_a_run_must_leave(finished: Path) -> None:
    for name in ("config.yaml", "log.txt", "metrics.json", "model_final.pth", "detections.png", "precision_recall.png"):
        assert (finished / name).is_file(), name
    start = read_json(finished / "start.json")
    assert len(start["drawn"]) > 20
    assert start["loaded"] == []
    assert list(finished.glob("events.out.tfevents.*"))
    results = read_json(finished / "results.json")
    assert (results["kind"], results["init"], results["label_fraction"]) == ("detection", "random", None)
    for key in (
        "bbox/AP",
        "coco/AP50",
        "voc07/AP",
        "voc12/AP75",
        "probe/knn_top1",
        "probe/linear_top1",
        "probe/rankme",
        "probe/object_knn_top1",
        "probe/object_knn200_top1",
        "probe/object_linear_top1",
        "probe/object_rankme",
        "probe/object_simplex_etf_gap",
    ):
        assert key in results["metrics"], key
    assert set(results["coco_backend"]) == {"name", "version"}
    assert results["metrics"]["bbox/AP"] == results["metrics"]["voc07/AP"]  # evaluator_type pascal_voc, year 2007
    assert yaml.safe_load((finished / "config.yaml").read_text())["MODEL"]["ROI_HEADS"]["NUM_CLASSES"] == 3


def test_a_run_keeps_what_its_figures_can_be_computed_from_again(finished: Path) -> None:
    kept = [(finished / name).read_bytes() for name in ("ground_truth.json", "detections.csv")]
    tested = read_tested(*kept)
    assert (tested.data_set, tested.headline, len(tested.files)) == ("shapes_voc_test", "voc07", 6)
    again = flatten(score(tested.truth, tested.found, tested.headline).families)
    metrics = read_json(finished / "results.json")["metrics"]
    assert again == {name: value for name, value in metrics.items() if not name.startswith("probe/")}


def test_metrics_hold_losses_ap_and_probes_by_iteration(finished: Path) -> None:
    lines = {line["iteration"]: line for line in read_metrics(finished)}
    assert {"probe/knn_top1", "probe/object_knn_top1"} <= set(lines[0])  # the initialisation, before the first step
    assert "bbox/AP" not in lines[0]
    for iteration in (2, 5):
        assert {"bbox/AP", "coco/AP", "probe/linear_top1", "total_loss", "lr"} <= set(lines[iteration])
    assert not any("time" in key for line in lines.values() for key in line)


def test_the_coco_layout_has_cocos_headline(tiny_options: list[str], shapes_root: Path, tmp_path: Path) -> None:
    changes = {
        "DATASETS__REGISTER": entries(shapes_root, "coco"),
        "DATASETS__TRAIN": ("shapes_coco_train",),
        "DATASETS__TEST": ("shapes_coco_test",),
        "SOLVER__MAX_ITER": 2,
    }
    assert main(command(tiny_options, tmp_path / "coco", **changes)) == 0
    metrics = read_json(tmp_path / "coco" / "results.json")["metrics"]
    assert metrics["bbox/AP"] == metrics["coco/AP"]
    assert "voc07/AP" in metrics


def test_the_best_checkpoint_is_kept_and_remembered(tiny_options: list[str], tmp_path: Path) -> None:
    assert main(command(tiny_options, tmp_path / "run", TEST__KEEP_BEST="probe/knn_top1", TEST__EVAL_PERIOD=1)) == 0
    best = torch.load(tmp_path / "run" / "model_best.pth", weights_only=True)
    values = {line["iteration"]: line["probe/knn_top1"] for line in read_metrics(tmp_path / "run")}
    by_step = {i: v for i, v in values.items() if i > 0 or len(values) == 1}
    assert values[best["iteration"]] == max([*by_step.values(), values[best["iteration"]]])
    last = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)
    assert last["trainer"]["hooks"]["BestCheckpoint"] == {
        "best": values[best["iteration"]],
        "iteration": best["iteration"],
    }


def test_precise_bn_is_a_function_of_the_iteration(tiny_cfg: CfgNode) -> None:
    tiny_cfg.TEST.PRECISE_BN.ENABLED = True
    tiny_cfg.TEST.PRECISE_BN.NUM_ITER = 2
    tiny_cfg.PROBE.ENABLED = False
    statistics = []
    for shift in (0, 3):
        trainer = DetectionTrainer(tiny_cfg, {})
        trainer.iter = 4
        torch.rand(shift)
        trainer.make_bn_precise()
        statistics.append(trainer.core.backbone.bottom_up.res5[0].conv1.norm.running_mean.clone())
    assert torch.equal(*statistics)


def test_fp16_scales_its_gradients_and_keeps_the_scale_on_resuming(
    tiny_cfg: CfgNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path that GPUs take, on the CPU, where a run is refused because it would only be slow."""
    monkeypatch.setattr("clop_det.detection.model.check_model", lambda cfg: None)
    tiny_cfg.SOLVER.AMP.ENABLED = True
    tiny_cfg.PROBE.ENABLED = False
    trainer = DetectionTrainer(tiny_cfg, {})
    assert not trainer.bf16  # evaluations compute in fp32, as Detectron2's do
    trainer.data_loader = trainer._loader("train", 0)
    key = "roi_heads.box_predictor.cls_score.weight"
    before = trainer.core.state_dict()[key].clone()
    with EventStorage(0) as trainer.storage:
        trainer.iter = trainer.start_iter = 0
        trainer.run_step()
        first = trainer.storage.latest()["total_loss"][0]
    after = trainer.core.state_dict()[key]
    assert 0 < first < 100
    assert torch.isfinite(after).all()
    assert 0 < (after - before).abs().max() < 0.1  # scaled gradients would be 65536 times as large
    trainer.scaler.update(128.0)
    again = DetectionTrainer(tiny_cfg, {})
    again.load_state_dict(trainer.state_dict())
    assert again.scaler.get_scale() == 128.0


@pytest.mark.parametrize("what", ["weights", "loss"])
def test_a_diverged_run_is_one_clear_error(
    tiny_options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    changes: dict[str, Any] = {"PROBE__ENABLED": False, "SOLVER__WARMUP_ITERS": 0}
    if what == "weights":  # Detectron2 finds the proposals of the next step not finite
        changes["SOLVER__BASE_LR"] = 1e30
    else:
        forward = GeneralizedRCNN.forward

        def spoiled(self: GeneralizedRCNN, batch: Any) -> Any:
            losses = forward(self, batch)
            return {**losses, "loss_cls": losses["loss_cls"] * float("nan")}

        monkeypatch.setattr(GeneralizedRCNN, "forward", spoiled)
    parts = "loss_cls nan, loss_box_reg " if what == "loss" else "loss_cls "
    with pytest.raises(UserError, match=rf"^iteration [01] is not finite \(.*{parts}.*Lower SOLVER\.BASE_LR") as error:
        main(command(tiny_options, tmp_path / "run", **changes))
    assert "\n" not in str(error.value)
    assert "Traceback" not in (tmp_path / "run" / "log.txt").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MODEL__WEIGHTS": "no/such.pth"}, "does not exist"),
        ({"MODEL__BACKBONE__FREEZE_AT": 2}, "would never learn"),
        ({"MODEL__RESNETS__NORM": "FrozenBN"}, "would never learn"),
        ({"MODEL__ROI_HEADS__NUM_CLASSES": 7}, "3 classes"),
        ({"MODEL__ROI_ALIGN": "fast"}, "MODEL.ROI_ALIGN"),
        ({"MODEL__ROI_HEADS__NAME": "Res5ROIHeads"}, "mixture of two networks"),
        ({"SOLVER__IMS_PER_BATCHES": 3}, "Did you mean SOLVER.IMS_PER_BATCH"),
        ({"DATASETS__TEST": ()}, "must each name a data set"),
        ({"TEST__COCO_BACKEND": "fast"}, "TEST.COCO_BACKEND"),
        ({"TEST__EXPECTED_RESULTS": [["bbox", "AP", 3]]}, r"\[task, metric, value, tolerance\]"),
        ({"SOLVER__AMP__ENABLED": True}, "fp16 with scaled gradients, which needs a GPU"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    tiny_options: list[str], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        main(command(tiny_options, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_a_folder_with_another_run_is_refused(finished: Path, tiny_options: list[str]) -> None:
    before = json.dumps(sorted(str(p) for p in finished.iterdir()))
    with pytest.raises(UserError, match=r"SOLVER\.BASE_LR"):
        main(command(tiny_options, finished, "--resume", SOLVER__BASE_LR=0.5))
    with pytest.raises(UserError, match="--resume"):
        main(command(tiny_options, finished))
    assert json.dumps(sorted(str(p) for p in finished.iterdir())) == before


def test_unreadable_image_is_named(tiny_cfg: CfgNode, shapes_root: Path, tmp_path: Path) -> None:
    from clop_det.annotations.datasets import register_datasets

    copy = tmp_path / "broken"
    shutil.copytree(shapes_root, copy)
    (copy / "JPEGImages" / "test_00.png").write_bytes(b"not an image")
    register_datasets(entries(copy, "voc", "broken"))
    tiny_cfg.DATASETS.TEST = ("broken_voc_test",)
    tiny_cfg.PROBE.ENABLED = False
    with pytest.raises(UserError, match=r"test_00\.png is no image"):
        DetectionTrainer(tiny_cfg, {}, train=False)
