"""kNN on annotated boxes: cut out of the image, against pooled from the feature maps of the whole image.

    python benchmarks/object_probe.py --config-file configs/detection/digits/faster_rcnn_R_18_FPN_digits.yaml

The residual network of the config, with MODEL.WEIGHTS or random ones; boxes of the training images are the bank, boxes
of the first test set the queries, at most --boxes of each. Cut out: as the object probe does (PROBE.OBJECTS.SIZE).
Pooled: each stage's map of the image at its own size, averaged inside the box as RoIAlign does with one bin.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import clop_det  # noqa: F401  (makes `import detectron2` work)

# isort: split
import torch
from detectron2.config import CfgNode
from torch import Tensor, nn
from torchvision.ops import roi_align

from clop_det.annotations.datasets import load_dataset, set_num_classes, use_datasets
from clop_det.config.reading import read_config
from clop_det.conversion.loading import DetectorCheckpointer
from clop_det.detection.loader import ImageCache, training_records
from clop_det.detection.model import build_detector, pooled_features
from clop_det.detection.objects import object_crops, usable_boxes
from clop_det.engine.seeding import generator
from clop_det.files import write_json
from clop_det.probes.measures.knn import knn_top1
from clop_det.provenance import collect_provenance

CONFIG = "configs/detection/digits/faster_rcnn_R_18_FPN_digits.yaml"
CUT_OUT = "cut out"
Features = dict[str, Tensor]


def normalised(model: nn.Module, images: Tensor, rgb: bool) -> Tensor:
    """(n, 3, H, W) uint8 RGB as the network takes them."""
    images = images if rgb else images.flip(1)
    return (images.float() - model.pixel_mean) / model.pixel_std  # type: ignore[operator,arg-type]


def pooled(model: nn.Module, records: list[dict[str, Any]], rgb: bool, limit: int, source: torch.Generator) -> Features:
    """Features of the boxes that `object_crops` would cut out, from each stage's map of their images."""
    network: Any = getattr(model.backbone, "bottom_up", model.backbone)
    images = ImageCache("RGB", limit=0)
    found: dict[str, list[Tensor]] = {}
    left = limit
    for index in torch.randperm(len(records), generator=source).tolist():
        boxes = torch.tensor([box for _, box in usable_boxes(records[index])[:left]])
        if len(boxes):
            image = torch.from_numpy(images.read(records[index]).copy()).permute(2, 0, 1)[None]
            for stage, features in network(normalised(model, image, rgb)).items():
                scale = features.shape[-1] / image.shape[-1]
                average = roi_align(features, [boxes], 1, scale, aligned=True)
                found.setdefault(stage, []).append(average.flatten(1))
            left -= len(boxes)
        if not left:
            break
    return {stage: torch.cat(parts) for stage, parts in found.items()}


def features(cfg: CfgNode, model: nn.Module, records: list[dict[str, Any]], limit: int, purpose: str) -> Any:
    """Features of up to `limit` boxes in every way, and their labels."""
    rgb, side = cfg.INPUT.FORMAT == "RGB", cfg.PROBE.OBJECTS.SIZE or cfg.CLASSIFICATION.IMAGE_SIZE
    crops, labels = object_crops(records, limit, side, generator(cfg.SEED, purpose))
    with torch.no_grad():
        cut = torch.cat([pooled_features(model, normalised(model, part, rgb)) for part in crops.split(256)])
        return {CUT_OUT: cut, **pooled(model, records, rgb, limit, generator(cfg.SEED, purpose))}, labels


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", default=CONFIG)
    parser.add_argument("--boxes", type=int, default=1000, help="of each set, at most")
    parser.add_argument("--k", type=int, default=20, help="neighbours")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("opts", nargs="*", help="KEY VALUE pairs")
    arguments = parser.parse_args()
    cfg = read_config(arguments.config_file, arguments.opts)
    cfg.defrost()
    use_datasets(cfg)
    set_num_classes(cfg)
    model = build_detector(cfg).eval()
    if cfg.MODEL.WEIGHTS:
        DetectorCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    bank, bank_labels = features(cfg, model, training_records(cfg), arguments.boxes, "object bank")
    queries, labels = features(cfg, model, load_dataset(cfg.DATASETS.TEST[0]), arguments.boxes, "object queries")
    most_common = Counter(labels.tolist()).most_common(1)[0][1] / len(labels)
    right = {way: knn_top1(bank[way], bank_labels, queries[way], labels, (arguments.k,))[arguments.k] for way in bank}
    print(f"\nkNN (k = {arguments.k}), {len(bank_labels)} boxes in the bank, {len(labels)} queries")
    for way, accuracy in right.items():
        print(f"{way:20} {accuracy:.3f}")
    print(f"{'most common class':20} {most_common:.3f}")
    if arguments.output:
        settings = {key: str(value) for key, value in vars(arguments).items() if key != "output"}
        result = {"knn_top1": right, "most_common_class": most_common, "queries": len(labels), "settings": settings}
        write_json(arguments.output, {**result, "provenance": collect_provenance()})


if __name__ == "__main__":
    main()
