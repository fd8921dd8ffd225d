from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from PIL import Image

from clop_det.annotations.checks import Checks
from clop_det.annotations.datasets import load_dataset, use_datasets
from clop_det.annotations.given import table_of
from clop_det.detection import loader as module
from clop_det.detection.loader import ImageCache, Record, has_box, inference_loader, train_loader, training_records
from clop_det.errors import UserError
from tests.detection.conftest import CLASSES, entries


def batches(cfg: CfgNode, start: int, count: int, rank: int = 0, world_size: int = 1) -> list[list[dict[str, Any]]]:
    return list(islice(train_loader(cfg, training_records(cfg), start, rank, world_size), count))


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    boxes = [x["instances"].gt_boxes.tensor for x in (a, b)]
    return a["file_name"] == b["file_name"] and torch.equal(a["image"], b["image"]) and torch.equal(*boxes)


def test_batch_i_is_the_same_wherever_the_run_starts(tiny_cfg: CfgNode) -> None:
    whole = batches(tiny_cfg, 0, 8)
    np.random.seed(99)
    for ours, theirs in zip(batches(tiny_cfg, 5, 3), whole[5:], strict=True):
        assert all(same(a, b) for a, b in zip(ours, theirs, strict=True))


def test_workers_change_nothing(tiny_cfg: CfgNode) -> None:
    here = batches(tiny_cfg, 0, 4)
    tiny_cfg.DATALOADER.NUM_WORKERS = 2
    for ours, theirs in zip(batches(tiny_cfg, 0, 4), here, strict=True):
        assert all(same(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_stop_signal_to_the_process_group_leaves_the_workers(tiny_cfg: CfgNode) -> None:
    here = batches(tiny_cfg, 0, 4)
    tiny_cfg.DATALOADER.NUM_WORKERS = 1
    loaded = iter(train_loader(tiny_cfg, training_records(tiny_cfg), 0, 0, 1))
    first = next(loaded)
    workers = multiprocessing.active_children()
    assert workers
    for worker in workers:
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(worker.pid, number)  # type: ignore[arg-type]
    for ours, theirs in zip([first, *islice(loaded, 3)], here, strict=True):
        assert all(same(a, b) for a, b in zip(ours, theirs, strict=True))


def test_two_processes_share_the_batch_of_one(tiny_cfg: CfgNode) -> None:
    whole = batches(tiny_cfg, 0, 5)
    parts = [batches(tiny_cfg, 0, 5, rank, 2) for rank in (0, 1)]
    for i in range(5):
        assert all(same(a, b) for a, b in zip(parts[0][i] + parts[1][i], whole[i], strict=True))


def test_augmentation_varies_within_and_between_epochs(tiny_cfg: CfgNode) -> None:
    views: dict[str, set[bytes]] = {}
    for batch in batches(tiny_cfg, 0, 60):
        for record in batch:
            views.setdefault(record["file_name"], set()).add(record["image"].numpy().tobytes())
    assert {len(kinds) for kinds in views.values()} <= {2, 3, 4}  # two sizes, flipped or not, in ten draws
    assert max(len(kinds) for kinds in views.values()) == 4


def test_a_batch_that_cannot_be_shared_is_refused(tiny_cfg: CfgNode) -> None:
    with pytest.raises(UserError, match="3 processes cannot share"):
        batches(tiny_cfg, 0, 1, 0, 3)


def test_inference_batches_hold_one_size_and_every_image_once(tiny_cfg: CfgNode) -> None:
    records = load_dataset("shapes_voc_test")
    records = [records[i] for i in (0, 3, 1, 4, 2, 5)]
    found = list(inference_loader(tiny_cfg, records))
    assert [r["image_id"] for batch in found for r in batch] == [r["image_id"] for r in records]
    assert [len(batch) for batch in found] == [2, 2, 2]
    assert all(len({r["image"].shape for r in batch}) == 1 for batch in found)
    shares = [list(inference_loader(tiny_cfg, records, rank, 4)) for rank in range(4)]
    assert sum(len(batch) for share in shares for batch in share) == len(records)


def test_the_cache_decodes_once_within_its_bound(tiny_cfg: CfgNode, monkeypatch: pytest.MonkeyPatch) -> None:
    records = load_dataset("shapes_voc_test")
    decoded: list[str] = []
    read = module.read_image

    def counting(record: Record, image_format: str) -> Any:
        decoded.append(record["file_name"])
        return read(record, image_format)

    monkeypatch.setattr(module, "read_image", counting)
    size = records[0]["height"] * records[0]["width"] * 3
    cache = ImageCache("RGB", 2 * size)
    for _ in range(3):
        for i in (0, 3, 0, 3, 1):
            cache.read(records[i])
    assert [decoded.count(records[i]["file_name"]) for i in (0, 3, 1)] == [1, 1, 3]


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("precise_bn", [False, True])
def test_all_loaders_of_a_run_share_one_budget(
    tiny_cfg: CfgNode, monkeypatch: pytest.MonkeyPatch, workers: int, precise_bn: bool
) -> None:
    limits: list[int] = []
    monkeypatch.setattr(module, "ImageCache", lambda image_format, limit: limits.append(limit))
    tiny_cfg.DATALOADER.CACHE_MIB, tiny_cfg.DATALOADER.NUM_WORKERS = 60, workers
    tiny_cfg.TEST.PRECISE_BN.ENABLED = precise_bn
    tiny_cfg.DATASETS.TEST = ("shapes_voc_test", "shapes_voc_train")
    records = training_records(tiny_cfg)
    for purpose in ("train", "precise bn 3")[: 1 + precise_bn]:
        train_loader(tiny_cfg, records, 0, 0, 1, purpose=purpose)
    for name in tiny_cfg.DATASETS.TEST:
        inference_loader(tiny_cfg, load_dataset(name))
    assert len(limits) == 3 + precise_bn
    assert (59 << 20) < sum(limits) * max(1, workers) <= 60 << 20


def test_channel_order_follows_the_config(tiny_cfg: CfgNode) -> None:
    record = load_dataset("shapes_voc_test")[0]
    assert np.array_equal(ImageCache("RGB", 0).read(record), ImageCache("BGR", 0).read(record)[:, :, ::-1])


def test_a_size_that_contradicts_the_annotation_is_refused(tiny_cfg: CfgNode) -> None:
    record = {**load_dataset("shapes_voc_test")[0], "width": 999}
    with pytest.raises(UserError, match="999"):
        ImageCache("RGB", 0).read(record)


def test_images_without_anything_to_learn_are_left_out(tiny_cfg: CfgNode, monkeypatch: pytest.MonkeyPatch) -> None:
    table = load_dataset("shapes_voc_train")
    records = list(table)
    for annotation in records[0]["annotations"]:
        annotation["iscrowd"] = 1
    for annotation in records[1]["annotations"]:
        annotation["bbox"] = [5, 5, 5, 9]
    table = table_of(records, CLASSES, Checks("here"))
    assert [has_box(r) for r in records[:3]] == [False, False, True]
    monkeypatch.setattr(module, "load_dataset", lambda name, masked: table)
    assert len(training_records(tiny_cfg)) == len(records) - 2
    monkeypatch.setattr(module, "load_dataset", lambda name, masked: table_of(records[:2], CLASSES, Checks("here")))
    with pytest.raises(UserError, match="none of the 2 images"):
        training_records(tiny_cfg)


def with_masks(cfg: CfgNode, shapes_root: Path, root: Path, *masks: Any) -> CfgNode:
    """The config of a detector of masks; the training boxes have these segmentations in turn (None: their own)."""
    shutil.copytree(shapes_root, root)
    path = root / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    for i, entry in enumerate(content["annotations"]):
        x, y, w, h = entry["bbox"]
        mask = masks[i % len(masks)]
        if mask == "code":
            height, width = sizes[entry["image_id"]]
            mask = {"size": [height, width], "counts": [x * height, w * height, (width - x - w) * height]}
        entry["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]] if mask is None else mask
    path.write_text(json.dumps(content))
    cfg.DATASETS.REGISTER = entries(root, "coco", "masks")
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("masks_coco_train",), ("masks_coco_test",)
    cfg.MODEL.MASK_ON = True
    use_datasets(cfg)
    return cfg


@pytest.mark.parametrize("order", [(None, []), ([], None), ([[1, 2]], None), (None, None, None, [])])
def test_a_detector_of_masks_trains_on_the_boxes_that_have_one(
    tiny_cfg: CfgNode, shapes_root: Path, tmp_path: Path, order: tuple[Any, ...]
) -> None:
    cfg = with_masks(tiny_cfg, shapes_root, tmp_path / "d", *order)
    for record in (record for batch in batches(cfg, 0, 12) for record in batch):
        assert 1 <= len(record["instances"].gt_masks) == len(record["instances"])
    assert sum(len(record["annotations"]) for record in training_records(cfg)) == 24 * order.count(None) // len(order)
    assert sum(len(record["annotations"]) for record in load_dataset("masks_coco_train")) == 24


def test_run_length_codes_train_as_bitmasks_and_are_refused_as_polygons(
    tiny_cfg: CfgNode, shapes_root: Path, tmp_path: Path
) -> None:
    cfg = with_masks(tiny_cfg, shapes_root, tmp_path / "d", None, "code")
    with pytest.raises(UserError, match=r"INPUT\.MASK_FORMAT is polygon.*Set INPUT\.MASK_FORMAT to bitmask"):
        training_records(cfg)
    cfg.INPUT.MASK_FORMAT = "bitmask"
    for record in (record for batch in batches(cfg, 0, 6) for record in batch):
        first, second = record["instances"].gt_masks.tensor
        assert first.any()
        assert second.all(dim=0).any()  # whole columns


def test_a_detector_of_masks_without_any_is_refused(tiny_cfg: CfgNode, shapes_root: Path, tmp_path: Path) -> None:
    tiny_cfg.MODEL.MASK_ON = True
    message = "MODEL.MASK_ON is True, but no box of .*_train has a mask to learn from. Set MODEL.MASK_ON to False"
    with pytest.raises(UserError, match=message):
        training_records(tiny_cfg)  # Pascal VOC
    cfg = with_masks(tiny_cfg, shapes_root, tmp_path / "d", [])
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    with pytest.raises(UserError, match=message):
        training_records(cfg)


def test_a_very_flat_image_keeps_a_row(tiny_cfg: CfgNode, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 3000, 3), dtype=np.uint8)).save(tmp_path / "x.png")
    entry = {"category_id": 0, "bbox": [0, 0, 1500, 6], "bbox_mode": 0}
    record = {"file_name": str(tmp_path / "x.png"), "height": 6, "width": 3000, "annotations": [entry]}
    tiny_cfg.INPUT.MAX_SIZE_TRAIN = tiny_cfg.INPUT.MAX_SIZE_TEST = 96
    for is_train in (True, False):
        mapped = module.CachingMapper(tiny_cfg, is_train, ImageCache("RGB", 0)).map(record, 1)
        assert mapped["image"].shape == (3, 1, 96)
