"""The one table that every evaluation prints: average precision by each rule, beside the probes."""

from __future__ import annotations

from collections.abc import Mapping

from tabulate import tabulate

_FAMILIES = {
    "coco": "COCO AP (101 points)",
    "voc07": "VOC AP (11 points)",
    "voc12": "VOC AP (area)",
    "segm": "COCO mask AP",
}
_PROBES = {"": "probes, classification set", "object_": "probes, annotated boxes"}
_FIRST = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def figures_table(figures: Mapping[str, float], headline: str, title: str) -> str:
    """A table of flat figures ("coco/AP", "probe/knn_top1", ...), one group a row.

    Args:
        figures: name -> value; AP in percent, probes as fractions.
        headline: the family that "bbox" repeats, marked in the table.
        title: first line.
    """
    groups: dict[str, dict[str, float]] = {}
    for key, value in figures.items():
        group, name = key.rsplit("/", 1)
        groups.setdefault(group, {})[name] = value
    rows = []
    for group, values in groups.items():
        prefix, _, kind = group.rpartition("/")
        label = f"{prefix} " if prefix else ""
        if kind in _FAMILIES:
            mark = " = bbox" if kind == headline else ""
            overall = "  ".join(f"{name} {values[name]:.2f}" for name in _FIRST if name in values)
            rows.append((f"{label}{_FAMILIES[kind]}{mark}", overall))
        elif kind == "probe":
            on_objects = {name: value for name, value in values.items() if name.startswith("object_")}
            on_set = {name: value for name, value in values.items() if name not in on_objects}
            for (start, label_of), part in zip(_PROBES.items(), (on_set, on_objects), strict=True):
                words = [f"{name.removeprefix(start)} {value:.4g}" for name, value in part.items()]
                rows += [(f"{label}{label_of}", _wrapped(words))] if words else []
    classes = {name[3:]: value for name, value in groups.get("bbox", {}).items() if name.startswith("AP-")}
    if 1 < len(classes) <= 30:
        rows.append(("bbox AP by class", _wrapped([f"{name} {value:.1f}" for name, value in classes.items()])))
    return f"{title}\n{tabulate(rows, tablefmt='simple_outline')}"


def _wrapped(words: list[str], width: int = 90) -> str:
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += ("  " if lines[-1] else "") + word
    return "\n".join(lines)
