"""One inference pass over a test set, and from it every family of average precision."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.utils import comm
from torch import nn

from clop_det.annotations.datasets import class_names, load_dataset
from clop_det.detection.class_names import class_order
from clop_det.detection.coco_backends import CocoBackend, coco_backend
from clop_det.detection.coco_metric import coco_metrics
from clop_det.detection.ground_truth import (
    Array,
    Detections,
    GroundTruth,
    ground_truth,
    join_detections,
    pack_instances,
)
from clop_det.detection.loader import inference_loader
from clop_det.detection.voc_metric import Curve, voc_metrics
from clop_det.engine.precision import autocast
from clop_det.engine.stop import left_together
from clop_det.errors import UserError

_log = logging.getLogger(__name__)
FAMILY_NAMES = ("bbox", "coco", "voc07", "voc12", "segm", "probe")
_FIGURE = re.compile(rf"(?:(?P<data_set>.*?)/)?(?P<family>{'|'.join(FAMILY_NAMES)})/(?P<name>.*)", re.DOTALL)
Families = dict[str, dict[str, float]]


class Collector(DatasetEvaluator):
    """Keeps the detections of this process's images as arrays; `evaluate` gives them, image index -> arrays."""

    def __init__(self) -> None:
        self._per_image: dict[int, dict[str, Any]] = {}

    def reset(self) -> None:
        self._per_image = {}

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        for record, output in zip(inputs, outputs, strict=True):
            self._per_image[record["index"]] = pack_instances(output["instances"])

    def evaluate(self) -> dict[int, dict[str, Any]]:
        return self._per_image


@dataclass
class Evaluation:
    """What an inference pass over one test set gave.

    Attributes:
        families: "coco", "voc07", "voc12" and "bbox", which is the one that the data set's evaluator_type names
            (and "segm" for models with masks); each name -> percent.
        detections: everything found.
        curves: per class, precision over recall at overlap 0.5.
    """

    families: Families
    detections: Detections
    curves: list[Curve] = field(default_factory=list)


class TestSet:
    """A registered test set with its loader and ground truth, kept for all evaluations of a run."""

    __test__ = False

    def __init__(self, cfg: CfgNode, name: str) -> None:
        self.name = name
        self.main_family = main_family(name)
        self._backend, self._most = coco_backend(cfg.TEST.COCO_BACKEND), cfg.TEST.COCO_MAX_DETECTIONS
        self._order: Array | None = None  # of the weights' classes among those of this set, where they differ
        self.records = [{**record, "index": i} for i, record in enumerate(load_dataset(name))]
        if not self.records:
            raise UserError(f"test set {name} has no image.")
        self.truth: GroundTruth = ground_truth(self.records, class_names(name))
        self._loader = inference_loader(cfg, self.records, comm.get_rank(), comm.get_world_size())
        absent = [c for k, c in enumerate(self.truth.classes) if not (self.truth.category == k).any()]
        if absent:
            _log.warning("%s has no box of %s: COCO's AP leaves them out, VOC's counts 0", name, ", ".join(absent))

    def follow(self, trained: Sequence[str], weights: str) -> None:
        """Count detections of `weights` by the names of the classes that they were trained on.

        Raises:
            UserError: the weights have other classes than this set.
        """
        order = class_order(trained, self.truth.classes, weights, self.name)
        self._order = None if order is None else np.array(order)

    def evaluate(self, model: nn.Module, bf16: bool, check: Callable[[], None]) -> Evaluation | None:
        """Run `model` (not wrapped in DDP) over the images; None on other processes than the main one.

        Args:
            bf16: whether to infer under bf16 autocast.
            check: called before each batch; may raise StopRequested, which then ends this on every process.
        """
        device = next(model.parameters()).device
        with left_together(), autocast(bf16, device):
            found = inference_on_dataset(model, self._loader, Collector(), callbacks={"before_inference": check})
        parts = comm.gather(found)
        if not comm.is_main_process():
            return None
        detections = join_detections(dict(itertools.chain.from_iterable(part.items() for part in parts)))
        if self._order is not None:
            detections = dataclasses.replace(detections, category=self._order[detections.category])
        return score(self.truth, detections, self.main_family, self._backend, self._most)


def main_family(name: str) -> str:
    """Which AP a data set's evaluator_type (and year) makes the headline: "coco", "voc07" or "voc12".

    Raises:
        UserError: an evaluator_type that this trainer does not know.
    """
    metadata = MetadataCatalog.get(name)
    kind = metadata.get("evaluator_type")
    if kind is None and metadata.get("year") in (2007, 2012):
        kind = "pascal_voc"  # what Detectron2's register_pascal_voc leaves unset
    if kind == "coco":
        return "coco"
    if kind == "pascal_voc":
        return "voc07" if metadata.year == 2007 else "voc12"
    raise UserError(f"data set {name}: evaluator_type is {kind!r}; this trainer evaluates coco and pascal_voc.")


def score(
    truth: GroundTruth, found: Detections, main: str, backend: CocoBackend | None = None, most: int = 100
) -> Evaluation:
    """Every AP family from one set of detections; masks' where both sides have some."""
    families: Families = {"coco": coco_metrics(truth, found, "bbox", backend, most)}
    voc, curves = voc_metrics(truth, found)
    families |= voc
    if found.masks is not None and any(truth.masks):
        families["segm"] = coco_metrics(truth, found, "segm", backend, most)
    return Evaluation({"bbox": families[main], **families}, found, curves)


def split_figure(key: str) -> tuple[str, str, str]:
    """A flat figure's data set ("" with one test set), family and name: "b/bbox/AP-a/c" -> ("b", "bbox", "AP-a/c").

    Class names may hold slashes, so the name is all that follows the family.

    Raises:
        ValueError: no figure of an evaluation.
    """
    found = _FIGURE.fullmatch(key)
    if found is None:
        raise ValueError(f"{key!r} is no figure of an evaluation")
    return found["data_set"] or "", found["family"], found["name"]


def flatten(families: Families, prefix: str = "") -> dict[str, float]:
    """{"bbox": {"AP": 3}} -> {"bbox/AP": 3}, finite figures only (JSON knows no NaN)."""
    return {
        f"{prefix}{family}/{name}": float(value)
        for family, figures in families.items()
        for name, value in figures.items()
        if math.isfinite(value)
    }
