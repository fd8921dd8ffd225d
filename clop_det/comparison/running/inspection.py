"""Looks into a finished detection run: spectra and class means of its features, detections on a few test images."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import detection_utils as utils
from PIL import Image
from torch import Tensor, nn

from clop_det.annotations.datasets import class_names, load_dataset, set_num_classes, use_datasets
from clop_det.annotations.images import read_image
from clop_det.checkpoints.saving import SafeCheckpointer
from clop_det.comparison.names import EXAMPLES_NAME, LEAST_SCORE
from clop_det.config.reading import read_config
from clop_det.data.images import Subset
from clop_det.data.opening import list_images, open_images, probe_indices
from clop_det.detection.loader import CachingMapper, ImageCache, has_box
from clop_det.detection.model import build_detector, pooled_features
from clop_det.engine.run_folder import CONFIG_NAME, write_results
from clop_det.files import write_json
from clop_det.probes.encoding import encode_images
from clop_det.probes.measures.geometry import class_means
from clop_det.probes.measures.spectrum import singular_values

_MOST = 100  # detections stored per image
_LOSSLESS = 256  # images up to this side are stored as PNG, larger ones as JPEG


def inspect_run(run: Path, output: Path, examples: int, weights: str) -> None:
    """Look into a finished fine-tuning; leaves examples.json, its images and results.json in `output`.

    Args:
        run: its run folder.
        output: folder, made if need be.
        examples: test images to detect on.
        weights: what the run started from; empty: random weights.

    Raises:
        UserError: the run's config, data or weights cannot be read.
    """
    start = time.monotonic()
    cfg = read_config(str(run / CONFIG_NAME), []).clone()
    cfg.defrost()
    use_datasets(cfg)
    set_num_classes(cfg)
    model = build_detector(cfg).eval()
    checkpointer = SafeCheckpointer(model)
    if weights:
        checkpointer.load(weights, checkpointables=[])
    before = _features(cfg, model, "before")
    checkpointer.load(str(run / "model_final.pth"), checkpointables=[])
    after = _features(cfg, model, "after")
    output.mkdir(parents=True, exist_ok=True)
    images = [_example(model, record, index, cfg, output) for index, record in _chosen(cfg, examples)]
    write_json(output / EXAMPLES_NAME, {"data_set": cfg.DATASETS.TEST[0], "images": images})
    write_results(cfg, "inspection", {}, output, time.monotonic() - start, **{**before, **after})


def _features(cfg: CfgNode, model: nn.Module, when: str) -> dict[str, Any]:
    """Spectrum and cosines of class means on the probes' evaluation images, in keys that end in `when`."""
    settings = cfg.CLASSIFICATION
    if not settings.ROOT:
        return {}
    store = open_images(settings, list_images(settings, settings.EVAL_SPLIT))
    asked = probe_indices(store.labels)
    features = encode_images(_encoder(cfg, model), Subset(store.images, asked), cfg.PROBE.BATCH_SIZE)
    means, _ = class_means(features, store.labels[asked])
    # What all classes share (features are positive) would make every cosine about 1.
    directions = nn.functional.normalize(means - means.mean(dim=0), dim=1)
    return {
        f"singular_values_{when}": [float(value) for value in singular_values(features)],
        f"class_cosines_{when}": [[round(float(c), 4) for c in row] for row in directions @ directions.T],
        "classes": [store.classes[k] for k in sorted(set(store.labels[asked].tolist()) - {-1})],  # those with a mean
    }


def _encoder(cfg: CfgNode, model: nn.Module) -> Callable[[Tensor], Tensor]:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD))
    device = next(model.parameters()).device

    def encode(images: Tensor) -> Tensor:
        images = images if cfg.INPUT.FORMAT == "RGB" else images.flip(1)
        with torch.no_grad():
            return pooled_features(model, ((images.float() - mean) / std).to(device)).cpu()

    return encode


def _chosen(cfg: CfgNode, count: int) -> list[tuple[int, dict[str, Any]]]:
    """`count` records with boxes, spread evenly over the first test set: the same for every run on it."""
    records = [record for record in load_dataset(cfg.DATASETS.TEST[0]) if has_box(record)]
    places = sorted({int(place) for place in np.linspace(0, len(records) - 1, min(count, len(records)))})
    return [(index, records[place]) for index, place in enumerate(places)]


def _example(model: nn.Module, record: dict[str, Any], index: int, cfg: CfgNode, folder: Path) -> dict[str, Any]:
    names = class_names(cfg.DATASETS.TEST[0])
    image = Image.fromarray(read_image(record, "RGB"))
    name = f"{index}.png" if max(image.size) <= _LOSSLESS else f"{index}.jpg"
    image.save(folder / name, quality=90)
    mapper = CachingMapper(cfg, False, ImageCache(cfg.INPUT.FORMAT, 0))
    with torch.no_grad():
        found = model([mapper.map(record, None)])[0]["instances"].to("cpu")
    boxes, scores, classes = found.pred_boxes.tensor, found.scores, found.pred_classes
    order = scores.argsort(descending=True)[:_MOST].tolist()
    truth = [
        {"box": _rounded(utils.get_bbox(item)), "label": names[item["category_id"]]}
        for item in record["annotations"]
        if not item.get("iscrowd", 0) and not item.get("difficult", 0)
    ]
    detections = [
        {"box": _rounded(boxes[i].tolist()), "label": names[int(classes[i])], "score": round(float(scores[i]), 4)}
        for i in order
        if scores[i] >= LEAST_SCORE
    ]
    return {"file": Path(record["file_name"]).name, "image": name, "ground_truth": truth, "detections": detections}


def _rounded(box: Any) -> list[float]:
    return [round(float(value), 2) for value in box]
