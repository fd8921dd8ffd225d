"""Class names belong to weights: a detector's checkpoint holds them, and they are compared with the data's by name."""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.config import CfgNode

from clop_det.annotations.datasets import class_names
from clop_det.checkpoints.reading import read_provenance
from clop_det.errors import UserError

PROVENANCE_KEY = "detection_classes"  # in a checkpoint's provenance, in the order of the class indices


def classes_of_weights(weights: str) -> tuple[str, ...]:
    """The class names of the detector in a checkpoint; empty where it is none, says none, or is no local file."""
    if not weights or "://" in weights:
        return ()
    names = read_provenance(weights).get(PROVENANCE_KEY)
    return tuple(map(str, names)) if isinstance(names, list | tuple) else ()


def class_order(trained: Sequence[str], data: Sequence[str], weights: str, test_set: str) -> list[int] | None:
    """Index of each of the weights' classes among the data's; None where they are the same.

    Raises:
        UserError: the two have other names.
    """
    if tuple(trained) == tuple(data):
        return None
    if sorted(trained) != sorted(data):
        raise UserError(
            f"{weights} was trained on the classes {_listed(trained)}, but {test_set} has {_listed(data)}. Evaluate on"
            " a data set with the same class names."
        )
    return [data.index(name) for name in trained]


def compare_class_names(cfg: CfgNode, *, train: bool) -> list[str]:
    """Compare the classes of MODEL.WEIGHTS with those of the data sets.

    An evaluation counts detections by name, so another order of the same classes is followed. A training starts from
    the weights as they are: other classes, or another order, are said.

    Returns:
        lines for the log.

    Raises:
        UserError: an evaluation on other classes.
    """
    weights = str(cfg.MODEL.WEIGHTS)
    trained = classes_of_weights(weights)
    if not trained:
        return []
    notes = []
    for name in cfg.DATASETS.TRAIN if train else cfg.DATASETS.TEST:
        data = tuple(class_names(name))
        if train and trained != data:
            notes.append(
                f"{weights} holds a detector of {_listed(trained)}, {name} has {_listed(data)}: the layers that"
                " classify start from weights of other classes"
            )
        elif not train and class_order(trained, data, weights, name) is not None:
            notes.append(
                f"{weights} was trained on the classes {_listed(trained)}, {name} counts {_listed(data)}: detections"
                " are matched by class name"
            )
    return notes


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
