"""The one table that every evaluation prints: average precision by each rule, beside the probes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tabulate import tabulate

import clop_det.detection.average_precision  # noqa: F401  (registers its figures)
from clop_det.detection.evaluation import split_figure
from clop_det.figures import BOX, CATALOGUE, CLASSES, ON_BOXES, PRECISION, PROBE, SIZES

_RULES = {
    "coco": "COCO AP (101 points)",
    "voc07": "VOC AP (11 points)",
    "voc12": "VOC AP (area)",
    "segm": "COCO mask AP",
}
_SETS = {"": "probes, classification set", ON_BOXES: "probes, annotated boxes"}
_MOST_CLASSES = 30


def figures_table(figures: Mapping[str, float], headlines: Mapping[str, str], title: str, most: int = 100) -> str:
    """A table of flat figures ("coco/AP", "probe/knn_top1", ...), one group a row, and the classes of each test set.

    A single run is written with one decimal more than the tables of a comparison have.

    Args:
        figures: name -> value; AP in percent, probes as fractions.
        headlines: test set ("" where there is one) -> the family that its "bbox" repeats, marked in the table.
        title: first line.
        most: detections of a class in an image that COCO's AP scored; said where it is not COCO's own 100.
    """
    groups: dict[tuple[str, str], dict[str, float]] = {}
    for key, value in figures.items():
        data_set, family, name = split_figure(key)
        groups.setdefault((data_set, family), {})[name] = value
    rows = []
    for (data_set, kind), values in groups.items():
        start = f"{data_set} " if data_set else ""
        if kind in _RULES:
            mark = f", {most} detections" if kind in ("coco", "segm") and most != 100 else ""
            mark += " = bbox" if kind == headlines.get(data_set) else ""
            rows.append((f"{start}{_RULES[kind]}{mark}", _in_words(values, CATALOGUE.names(PRECISION, SIZES))))
        elif kind == PROBE:
            on_boxes = [name for name in values if name.startswith(ON_BOXES)]
            on_images = [name for name in values if name not in on_boxes]
            for (of_set, text), names in zip(_SETS.items(), (on_images, on_boxes), strict=True):
                rows += [(start + text, _in_words(values, names, of_set))] if names else []
    for (data_set, kind), values in groups.items():
        classes = [name for name in values if kind == BOX and CATALOGUE.find(name).group == CLASSES]
        if 1 < len(classes) <= _MOST_CLASSES:
            rows.append((f"{data_set} bbox AP by class".lstrip(), _in_words(values, classes, "AP-")))
    return f"{title}\n{tabulate(rows, tablefmt='simple_outline', disable_numparse=True)}"


def _in_words(values: Mapping[str, float], names: Iterable[str], without: str = "") -> str:
    """Label and value of each of `names` that has one; the row says what the part `without` of the names does."""
    words = []
    for name in names:
        if name in values:
            figure, short = CATALOGUE.find(name), name.removeprefix(without)
            label = short if figure.group == CLASSES else CATALOGUE.find(short).label  # a class's name stays as it is
            words.append(f"{label} {figure.text(values[name], more=1)}")
    return _wrapped(words)


def _wrapped(words: list[str], width: int = 90) -> str:
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += ("  " if lines[-1] else "") + word
    return "\n".join(lines)
