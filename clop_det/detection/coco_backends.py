"""The programs that can compute COCO's average precision: one registry, TEST.COCO_BACKEND names an entry."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clop_det.detection.ground_truth import Array
from clop_det.errors import UserError


@dataclass(frozen=True)
class CocoBackend:
    """One implementation of pycocotools' interface.

    Attributes:
        name: the distribution's name on the package index, and in the config.
        run: (annotations in COCO's JSON layout, results in COCO's layout, "bbox" or "segm", most detections of a class
            in an image) -> precision (overlaps, recalls, classes, areas, 1), -1 where there is no ground truth.
    """

    name: str
    run: Callable[[dict[str, Any], list[dict[str, Any]], str, int], Array]

    @property
    def version(self) -> str:
        """The installed version."""
        return importlib.metadata.version(self.name)

    def precision(self, reference: dict[str, Any], results: list[dict[str, Any]], task: str, most: int = 100) -> Array:
        """`run`, without what it prints."""
        with contextlib.redirect_stdout(io.StringIO()):
            return self.run(reference, results, task, most)


def _run(index: Any, evaluation: Any, results: list[dict[str, Any]], task: str, most: int) -> Array:
    evaluated = evaluation(index, index.loadRes(results), task)
    evaluated.params.maxDets = [most]
    evaluated.evaluate()
    evaluated.accumulate()
    precision: Array = evaluated.eval["precision"]
    return precision


def _pycocotools(reference: dict[str, Any], results: list[dict[str, Any]], task: str, most: int) -> Array:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    index = COCO()
    index.dataset = reference
    index.createIndex()
    return _run(index, COCOeval, results, task, most)


def _faster_coco_eval(reference: dict[str, Any], results: list[dict[str, Any]], task: str, most: int) -> Array:
    from faster_coco_eval import COCO, COCOeval_faster

    return _run(COCO(reference), COCOeval_faster, results, task, most)


def _hotcoco(reference: dict[str, Any], results: list[dict[str, Any]], task: str, most: int) -> Array:
    from hotcoco import COCO, COCOeval

    return _run(COCO(reference), COCOeval, results, task, most)


BACKENDS = {
    "pycocotools": _pycocotools,
    "faster-coco-eval": _faster_coco_eval,
    "hotcoco": _hotcoco,
}


def coco_backend(name: str) -> CocoBackend:
    """The backend that TEST.COCO_BACKEND names.

    Raises:
        UserError: an unknown name, or a package that is not installed (the message names the extra).
    """
    if name not in BACKENDS:
        raise UserError(f"TEST.COCO_BACKEND is {name!r}; choose one of {', '.join(BACKENDS)}.")
    try:
        importlib.import_module(name.replace("-", "_"))
    except ImportError as error:
        raise UserError(
            f"TEST.COCO_BACKEND is {name}, which cannot be imported ({error}): pip install 'clop_det[fast-eval]'."
        ) from error
    return CocoBackend(name, BACKENDS[name])
