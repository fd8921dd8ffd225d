"""A trained detector applied to images: COCO results, and the images with the boxes drawn in."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode

from clop_det.annotations.images import read_image
from clop_det.config.reading import read_config
from clop_det.conversion.loading import DetectorCheckpointer
from clop_det.data.decoding import IMAGE_SUFFIXES, use_decoding
from clop_det.detection.class_names import classes_of_weights
from clop_det.detection.ground_truth import pack_instances
from clop_det.detection.loader import CachingMapper, ImageCache
from clop_det.detection.model import build_detector
from clop_det.detection.pictures import draw_found
from clop_det.engine.device import check_device, set_up_device
from clop_det.engine.precision import autocast, use_bf16, use_official_settings
from clop_det.engine.run_folder import CONFIG_NAME
from clop_det.errors import UserError
from clop_det.files import StrPath, write_json

_WEIGHTS = ("model_final.pth", "model_best.pth")
Progress = Callable[[int, int], None]  # images done, images in all


@dataclass(frozen=True)
class Predictions:
    """What a detector found.

    Attributes:
        results: JSON file, a list in COCO's results format; `image_id` and `category_id` are those of `images`.
        images: JSON file with COCO's lists of images (files as they were named) and categories.
        pictures: folder of the drawn images; None where none were asked for.
        count: detections in all.
        unreadable: image file -> why it was left out.
    """

    results: Path
    images: Path
    pictures: Path | None
    count: int
    unreadable: dict[str, str] = field(default_factory=dict)


class Detector:
    """The detector of a run folder or a checkpoint, as it was trained.

    Args:
        source: a run folder, or a checkpoint in one.
        overrides: ["KEY", "VALUE", ...], e.g. of MODEL.DEVICE.
        allow_imports: whether modules that the run's config names are imported, which runs their code.

    Raises:
        UserError: no checkpoint or config there, or the two do not fit.
    """

    def __init__(self, source: StrPath, overrides: Sequence[str] = (), *, allow_imports: bool = False) -> None:
        self.weights = weights_of(Path(source))
        self.cfg = _config_beside(self.weights, overrides, allow_imports)
        use_decoding(self.cfg.INPUT)
        check_device(self.cfg.MODEL.DEVICE)
        set_up_device(self.cfg)
        use_official_settings(self.cfg)
        self._device = torch.device(self.cfg.MODEL.DEVICE)
        self._model = build_detector(self.cfg).eval()
        DetectorCheckpointer(self._model, whole=True).load(str(self.weights))
        self._bf16 = not self.cfg.SOLVER.AMP.ENABLED and use_bf16(self.cfg.SOLVER.PRECISION, self._device)
        self._mapper = CachingMapper(self.cfg, False, ImageCache(self.cfg.INPUT.FORMAT, 0))
        names = classes_of_weights(str(self.weights))
        count = max(int(self.cfg.MODEL.ROI_HEADS.NUM_CLASSES), int(self.cfg.MODEL.RETINANET.NUM_CLASSES))
        self.classes = names or tuple(f"class {k}" for k in range(count))

    def detect(self, path: str) -> tuple[tuple[int, int], dict[str, Any]]:
        """(height, width) of an image, and box (N, 4), score, category and, if there are, masks; best first.

        Raises:
            UserError: the image cannot be read.
        """
        inputs = self._mapper.map({"file_name": path}, None)  # which notes the image's own height and width
        with torch.no_grad(), autocast(self._bf16, self._device):
            (output,) = self._model([inputs])
        return (inputs["height"], inputs["width"]), pack_instances(output["instances"])


def predict(
    detector: Detector,
    images: Sequence[StrPath],
    output: StrPath,
    *,
    threshold: float = 0.5,
    draw: bool = True,
    progress: Progress | None = None,
) -> Predictions:
    """Apply a detector to image files and folders, and write what it finds of at least `threshold`.

    Raises:
        UserError: no image is there, or the output folder cannot be written to.
    """
    if not 0 <= threshold <= 1:
        raise UserError(f"the threshold is {threshold}; it must lie in [0, 1].")
    files, folder = image_files(images), Path(output)
    results: list[dict[str, Any]] = []
    listed, unreadable = [], {}
    for number, (path, name) in enumerate(files, 1):
        try:
            (height, width), found = detector.detect(path)
        except UserError as error:
            unreadable[path] = str(error)
            continue
        finally:
            if progress:
                progress(number, len(files))
        listed.append({"id": number, "file_name": path, "height": height, "width": width})
        kept = found["score"] >= threshold
        results += _coco(number, found, kept)
        if draw:
            target = folder / "pictures" / f"{name}.png"
            draw_found(target, read_image({"file_name": path}, "RGB"), found, kept, detector.classes)
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(detector.classes)]
    write_json(folder / "images.json", {"images": listed, "annotations": [], "categories": categories})
    write_json(folder / "detections.json", results)
    pictures = folder / "pictures" if draw else None
    return Predictions(folder / "detections.json", folder / "images.json", pictures, len(results), unreadable)


def weights_of(source: Path) -> Path:
    """The checkpoint of a run folder (the final one, else the best), or the file itself.

    Raises:
        UserError: there is none.
    """
    if source.is_file():
        return source
    found = [source / name for name in _WEIGHTS if (source / name).is_file()]
    if not found:
        what = "the run in it has not ended" if source.is_dir() else "there is no such file or folder"
        raise UserError(f"no detector in {source}: {what}. Name the folder of a finished run, or a checkpoint in it.")
    return found[0]


def image_files(images: Sequence[StrPath]) -> list[tuple[str, str]]:
    """(path, name of its picture) of files, and of all images below folders; sorted within a folder.

    Raises:
        UserError: there is no such file, or no image at all.
    """
    paths: list[Path] = []
    for item in map(Path, images):
        if not item.exists():
            raise UserError(f"no image {item}: there is no such file or folder.")
        paths += sorted(_below(item)) if item.is_dir() else [item]
    if not paths:
        raise UserError(f"no image in {', '.join(map(str, images))}; files end in {', '.join(IMAGE_SUFFIXES)}.")
    width = len(str(len(paths)))
    return [(str(path), f"{number:0{width}d}_{path.stem}") for number, path in enumerate(paths, 1)]


def _below(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(place, name) for name in names if name.lower().endswith(IMAGE_SUFFIXES) and name[0] != ".")


def _config_beside(weights: Path, overrides: Sequence[str], allow_imports: bool) -> CfgNode:
    file = weights.parent / CONFIG_NAME
    if not file.is_file():
        raise UserError(f"no {CONFIG_NAME} beside {weights}: it says how the detector is built. Keep them together.")
    words = ["MODEL.WEIGHTS", json.dumps(str(weights)), *overrides]
    if not torch.cuda.is_available() and "MODEL.DEVICE" not in overrides:
        words += ["MODEL.DEVICE", "cpu", "SOLVER.AMP.ENABLED", "False"]
    return read_config(str(file), words, allow_imports=allow_imports)


def _coco(image: int, found: dict[str, Any], kept: Any) -> Iterator[dict[str, Any]]:
    for k in kept.nonzero()[0].tolist():
        x1, y1, x2, y2 = found["box"][k].tolist()
        entry = {"image_id": image, "category_id": int(found["category"][k]) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
        entry["score"] = float(found["score"][k])
        if "masks" in found:
            code = found["masks"][k]
            entry["segmentation"] = {"size": list(code["size"]), "counts": code["counts"].decode("ascii")}
        yield entry
