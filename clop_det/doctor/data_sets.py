"""Checks of what the data sets hold: classes by split, what cannot be scored, images in two splits."""

from __future__ import annotations

from collections.abc import Iterator

from clop_det.annotations.overlap import check_overlap, describe
from clop_det.detection.best_figure import settle_best
from clop_det.detection.class_names import compare_class_names
from clop_det.detection.class_table import class_counts, class_line, remarks
from clop_det.detection.run_data import check_pictures, data_sets
from clop_det.doctor.findings import ERROR, OK, WARN, Finding, Situation
from clop_det.errors import UserError


def check_classes(situation: Situation) -> Iterator[Finding]:
    """Boxes by class and split, and what they show; needs the check of the data."""
    if not _readable(situation):
        return
    names, counts = class_counts(situation.cfg)
    yield Finding("classes", OK, class_line(names, counts))
    for found, remedy in remarks(situation.cfg, names, counts):
        yield Finding("classes", WARN, found, remedy)
    for line in compare_class_names(situation.cfg, train=True) if situation.weights else ():
        yield Finding("classes of the weights", WARN, line, "name the same CLASSES, in the weights' order")


def check_figures(situation: Situation) -> Iterator[Finding]:
    """The figure of the best checkpoint; needs the check of the data."""
    if _readable(situation):
        for line in settle_best(situation.cfg.clone()):
            yield Finding("best checkpoint", OK, line)


def check_images(situation: Situation) -> Iterator[Finding]:
    """What the images show, and whether a test image is learnt from; needs the check of the data."""
    if not _readable(situation):
        return
    for name in data_sets(situation.cfg):
        try:
            check_pictures(name)
        except UserError as error:
            yield Finding(f"images {name}", ERROR, str(error))
    overlap = check_overlap(situation.cfg)
    if said := describe(overlap):
        yield Finding("overlap", OK, said)
    for line in overlap["copies"]:
        yield Finding("copies", WARN, line, "give one of the files all boxes, and take out the others")


def _readable(situation: Situation) -> bool:
    return all(situation.images.get(name) for name in data_sets(situation.cfg))
