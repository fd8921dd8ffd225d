"""The one table that every evaluation prints: average precision by each rule, beside the probes."""

from __future__ import annotations

from collections.abc import Mapping

from tabulate import tabulate

from clop_det.detection.evaluation import split_figure

_FAMILIES = {
    "coco": "COCO AP (101 points)",
    "voc07": "VOC AP (11 points)",
    "voc12": "VOC AP (area)",
    "segm": "COCO mask AP",
}
_PROBES = {"": "probes, classification set", "object_": "probes, annotated boxes"}
_FIRST = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def figures_table(figures: Mapping[str, float], headlines: Mapping[str, str], title: str, most: int = 100) -> str:
    """A table of flat figures ("coco/AP", "probe/knn_top1", ...), one group a row, and the classes of each test set.

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
        label = f"{data_set} " if data_set else ""
        if kind in _FAMILIES:
            mark = f", {most} detections" if kind in ("coco", "segm") and most != 100 else ""
            mark += " = bbox" if kind == headlines.get(data_set) else ""
            overall = "  ".join(f"{name} {values[name]:.2f}" for name in _FIRST if name in values)
            rows.append((f"{label}{_FAMILIES[kind]}{mark}", overall))
        elif kind == "probe":
            on_objects = {name: value for name, value in values.items() if name.startswith("object_")}
            on_set = {name: value for name, value in values.items() if name not in on_objects}
            for (start, label_of), part in zip(_PROBES.items(), (on_set, on_objects), strict=True):
                words = [f"{name.removeprefix(start)} {value:.4g}" for name, value in part.items()]
                rows += [(f"{label}{label_of}", _wrapped(words))] if words else []
    for (data_set, kind), values in groups.items():
        classes = {name[3:]: value for name, value in values.items() if kind == "bbox" and name.startswith("AP-")}
        if 1 < len(classes) <= 30:
            words = [f"{name} {value:.1f}" for name, value in classes.items()]
            rows.append((f"{data_set} bbox AP by class".lstrip(), _wrapped(words)))
    return f"{title}\n{tabulate(rows, tablefmt='simple_outline', disable_numparse=True)}"


def _wrapped(words: list[str], width: int = 90) -> str:
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += ("  " if lines[-1] else "") + word
    return "\n".join(lines)
