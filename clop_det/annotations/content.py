"""The content of detection data sets, as a job's identity counts it: annotations and images, wherever they lie."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from clop_det.annotations.datasets import checksum_of, load_dataset, use_datasets
from clop_det.data.content import address_of
from clop_det.data.image_sources import size_of
from clop_det.digests import Digests
from clop_det.errors import UserError


def dataset_digest(name: str, cfg: CfgNode, digests: Digests) -> str:
    """Digest of a data set of DATASETS.TRAIN or TEST.

    What training and evaluation see of it counts, and the sizes of its images in bytes. An entry of DATASETS.REGISTER
    counts without its ROOT; a digits:// address there counts by itself and is not generated for it.
    """
    register = cfg.DATASETS.REGISTER
    entry = next((entry for entry in register if isinstance(entry, Mapping) and entry.get("NAME") == name), None)

    def read() -> Any:
        own = {key: value for key, value in (entry or {}).items() if key != "ROOT"}
        address = address_of(entry.get("ROOT", "")) if entry else None
        if address is not None:
            return [own, address]
        use_datasets(cfg)  # what this process read for an earlier plan may have changed
        if name not in DatasetCatalog:
            raise UserError(f"data set {name} is not registered; name it in DATASETS.REGISTER.")
        files = load_dataset(name).images.file.tolist()
        return [own, checksum_of(name), [size_of(Path(file)) for file in files]]

    # `use_datasets` may lend this set the classes of the first.
    first = next(iter([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]), "")
    return digests.of(f"data set {name}", [name, entry, dict(cfg.DATASETS.CHECKS), first], read)
