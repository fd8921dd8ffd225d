from __future__ import annotations

import pytest
from detectron2.config import CfgNode

from clop_det.config.reading import read_config
from clop_det.detection.report import figures_table
from clop_det.detection.scaling import fit_to_processes, scaled_steps
from clop_det.errors import UserError


def moco_schedule(**changes: object) -> CfgNode:
    cfg = read_config("", ["MODEL.DEVICE", "cpu"])
    cfg.defrost()
    values = {"REFERENCE_WORLD_SIZE": 8, "IMS_PER_BATCH": 16, "BASE_LR": 0.02, "MAX_ITER": 24000, "WARMUP_ITERS": 100}
    for key, value in {**values, "STEPS": (18000, 22000), **changes}.items():
        cfg.SOLVER[key] = value
    cfg.TEST.EVAL_PERIOD = 1000
    return cfg


def test_everything_scales_together_and_the_images_seen_stay() -> None:
    cfg = moco_schedule()
    (note,) = fit_to_processes(cfg, 1)
    solver = cfg.SOLVER
    assert (solver.IMS_PER_BATCH, solver.MAX_ITER, solver.STEPS) == (2, 192000, (144000, 176000))
    assert abs(solver.BASE_LR - 0.0025) < 1e-12
    assert (solver.WARMUP_ITERS, cfg.TEST.EVAL_PERIOD) == (800, 8000)
    assert solver.IMS_PER_BATCH * solver.MAX_ITER == 16 * 24000
    assert "SOLVER.BASE_LR 0.02 -> 0.0025" in note
    assert "SOLVER.MAX_ITER 24000 -> 192000" in note


def test_a_schedule_already_scaled_or_without_reference_stays() -> None:
    assert fit_to_processes(moco_schedule(), 8) == []
    assert fit_to_processes(moco_schedule(REFERENCE_WORLD_SIZE=0), 3) == []


def test_a_batch_that_the_reference_does_not_divide_is_refused() -> None:
    with pytest.raises(UserError, match="IMS_PER_BATCH is 12"):
        fit_to_processes(moco_schedule(IMS_PER_BATCH=12), 1)


def test_sync_bn_falls_back_on_one_process_and_says_so() -> None:
    cfg = moco_schedule(REFERENCE_WORLD_SIZE=0)
    nodes = [cfg.MODEL.RESNETS, cfg.MODEL.FPN, cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.RETINANET]
    for node in nodes:
        node.NORM = "SyncBN"
    notes = fit_to_processes(cfg, 1)
    assert {node.NORM for node in nodes} == {"BN"}
    assert len(notes) == len(nodes)
    assert "MODEL.ROI_BOX_HEAD.NORM: SyncBN -> BN (1 process on cpu)" in notes
    cfg.MODEL.RESNETS.NORM = "SyncBN"
    assert len(fit_to_processes(cfg, 2)) == 1  # no GPU: it has no synchronised kernel
    cfg.MODEL.RESNETS.NORM, cfg.MODEL.DEVICE = "SyncBN", "cuda"
    assert fit_to_processes(cfg, 8) == []
    cfg.MODEL.RESNETS.NORM = "naiveSyncBN"
    assert "computes what BN does" in fit_to_processes(cfg, 1)[0]
    assert cfg.MODEL.RESNETS.NORM == "naiveSyncBN"


@pytest.mark.parametrize(("processes", "batch", "lr", "iterations"), [(1, 2, 0.0025, 192000), (16, 32, 0.04, 12000)])
def test_no_gpu_is_one_process_and_more_scale_up(processes: int, batch: int, lr: float, iterations: int) -> None:
    for given in {processes, 0 if processes == 1 else processes}:
        cfg = moco_schedule()
        fit_to_processes(cfg, given)
        assert (batch, iterations) == (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER)
        assert pytest.approx(lr) == cfg.SOLVER.BASE_LR


def test_the_steps_after_scaling_leave_the_config_as_it_is() -> None:
    cfg = moco_schedule()
    before = cfg.SOLVER.MAX_ITER
    cfg.freeze()
    assert scaled_steps(cfg, 1) == 192000
    assert before == cfg.SOLVER.MAX_ITER


def test_the_table_shows_every_family_the_probes_and_the_classes() -> None:
    figures = {"bbox/AP": 12.3, "bbox/AP-cat": 20.0, "bbox/AP-dog": 4.6, "coco/AP": 12.3, "coco/AP50": 40.0}
    figures |= {"voc07/AP": 13.0, "probe/knn_top1": 0.5, "probe/rankme": 17.25, "probe/object_knn_top1": 0.25}
    table = figures_table(figures, {"": "coco"}, "set after 9 iterations")
    assert table.startswith("set after 9 iterations\n")
    assert "COCO AP (101 points) = bbox │ AP 12.30  AP50 40.00" in table
    for text in ("VOC AP (11 points)", "kNN 0.5000  RankMe 17.25", "cat 20.00  dog 4.60"):
        assert text in table
    objects = next(line for line in table.splitlines() if "annotated boxes" in line)
    assert objects.split("│")[2].strip() == "kNN 0.2500"
    assert "20 detections" not in table


def test_each_test_set_has_its_own_headline_and_classes_and_the_limit_is_stated() -> None:
    figures = {"a/bbox/AP": 1.0, "a/bbox/AP-x/y": 1.0, "a/bbox/AP-$z {0}": 1.0, "a/coco/AP": 1.0, "a/voc07/AP": 2.0}
    figures |= {"b/bbox/AP": 4.0, "b/bbox/AP-1e5": 3.0, "b/bbox/AP-\u85fb": 5.0, "b/coco/AP": 3.0, "b/voc07/AP": 4.0}
    table = figures_table(figures, {"a": "coco", "b": "voc07"}, "", most=20)
    rows = {line.split("│")[1].strip(): line.split("│")[2].strip() for line in table.splitlines() if "│" in line}
    assert [name for name in rows if "= bbox" in name] == [
        "a COCO AP (101 points), 20 detections = bbox",
        "b VOC AP (11 points) = bbox",
    ]
    assert rows["a bbox AP by class"] == "x/y 1.00  $z {0} 1.00"
    assert rows["b bbox AP by class"] == "1e5 3.00  \u85fb 5.00"
