"""The content of detection data sets, as a job's identity counts it: annotations and images, wherever they lie."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from clop_det.annotations.checks import Checks, Fault, Policies
from clop_det.annotations.coco import read_coco
from clop_det.annotations.datasets import class_names, register_datasets
from clop_det.annotations.sources import read_lines
from clop_det.annotations.voc import image_ids, image_path, voc_source
from clop_det.data.content import address_of
from clop_det.data.image_sources import size_of
from clop_det.data.paths import local_path
from clop_det.digests import Digests
from clop_det.errors import UserError


def dataset_digest(name: str, register: Sequence[Mapping[str, Any]], digests: Digests) -> str:
    """Digest of a data set of DATASETS.TRAIN or TEST.

    Of Pascal VOC and COCO data the annotation files, the class names, and the listed images with their sizes in bytes
    count; of what the user's own code registers, the records. An entry of DATASETS.REGISTER counts without its ROOT; a
    digits:// address there counts by itself and is not generated for it.

    Args:
        register: DATASETS.REGISTER.
    """
    entry = next((entry for entry in register if isinstance(entry, Mapping) and entry.get("NAME") == name), None)

    def read() -> Any:
        if entry is None:
            return _registered(name, digests)
        own = {key: value for key, value in entry.items() if key != "ROOT"}
        address = address_of(entry.get("ROOT", ""))
        if address is not None:
            return [own, address]
        register_datasets([entry])
        return [own, _registered(name, digests, entry)]

    return digests.of(f"data set {name}", [name, entry], read)


def _registered(name: str, digests: Digests, entry: Mapping[str, Any] | None = None) -> list[Any]:
    """The content of a data set in Detectron2's catalogue."""
    if name not in DatasetCatalog:
        raise UserError(f"data set {name} is not registered; name it in DATASETS.REGISTER.")
    metadata, settings = MetadataCatalog.get(name), entry or {}
    if metadata.get("dirname") and metadata.get("split") is not None and metadata.get("thing_classes"):
        return [list(metadata.thing_classes), _voc(metadata, settings, digests)]
    if metadata.get("json_file") and metadata.get("image_root") and metadata.get("evaluator_type") == "coco":
        return [metadata.get("thing_classes"), _coco(metadata, settings, digests)]
    records = DatasetCatalog.get(name)
    files = [str(record["file_name"]) for record in records]
    top = os.path.commonpath([os.path.dirname(file) for file in files]) if files else ""
    images = [[os.path.relpath(file, top), size_of(Path(file))] for file in files]
    return [list(class_names(name)), images, [{**record, "file_name": ""} for record in records]]


def _voc(metadata: Any, entry: Mapping[str, Any], digests: Digests) -> list[Any]:
    """Per image: id, digest of its annotation, name and size of its file; "" and -1 for what is absent."""
    root, year = (local_path(entry["ROOT"]), entry.get("YEAR", 2007)) if entry else (Path(metadata.dirname), 2007)
    source = voc_source(root, year, metadata.split, str(entry.get("LIST", "")))
    content = []
    for name in image_ids(source, Checks("", Policies())):
        annotation = source.folder / "Annotations" / f"{name}.xml"
        try:
            image = image_path(source.folder, name)
        except Fault:
            image = Path()
        digest = digests.of_file(annotation) if annotation.is_file() else ""
        content.append([name, digest, image.name, size_of(image) if image.name else -1])
    return content


def _coco(metadata: Any, entry: Mapping[str, Any], digests: Digests) -> list[Any]:
    """Digest of the annotation file; per listed image its name and size."""
    path, folder = Path(metadata.json_file), Path(metadata.image_root)
    if entry.get("LIST"):
        names = list(read_lines(local_path(entry["ROOT"]) / entry["LIST"], f"DATASETS.REGISTER, {entry['NAME']}: LIST"))
    else:
        names = [str(image.get("file_name")) for image in read_coco(path)["images"]]
    return [digests.of_file(path), [[name, size_of(folder / name)] for name in names]]
