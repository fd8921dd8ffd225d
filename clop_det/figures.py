"""The catalogue of figures: what each number is called, how it is written and which way is better.

A probe or a metric registers the figures that it gives. Tables, plots, CSV files, the progress line, the table of an
evaluation and the best checkpoint read them here. `Catalogue.find` derives the families from the base figure:

| name | derived from |
|---|---|
| "coco/AP50", "my_test/bbox/AP", "AP@my_val" | AP50 by COCO's rules, AP on one of several test sets |
| "AP-person" | the pattern AP-* |
| "probe/object_knn_top1", "knn_top1_finetuned" | knn_top1 on annotated boxes, and after fine-tuning |
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from clop_det.errors import UserError

HIGHER, LOWER = "higher", "lower"
# Groups that a table or a plot looks for; a figure of another group stands in the table of further figures.
PRECISION, SIZES, CLASSES = "average precision", "average precision by size", "average precision by class"
ACCURACY, RANK, COLLAPSE, SETTING = "accuracy", "rank", "collapse", "setting"
# Prefixes of names: how average precision was computed ("bbox" repeats the one that the data set asks for), and probes.
FAMILIES = {"coco": "COCO", "voc07": "VOC07", "voc12": "VOC12", "segm": "mask"}
BOX, PROBE = "bbox", "probe"
ON_BOXES, AFTER = "object_", "_finetuned"
_NAME = re.compile(r"[A-Za-z0-9_*-]{1,80}")
_LONGEST = 80  # characters of a label
_MOST_DECIMALS = 9
_MOST_FACTS = 200  # figures that a reader takes from run folders


@dataclass(frozen=True)
class Figure:
    """One number that a run gives.

    Attributes:
        name: as in metrics.json, without prefixes, e.g. "knn_top1"; one "*" stands for any text ("AP-*").
        label: what people read; a "*" takes the text that the one in `name` stands for.
        decimals: digits behind the point.
        unit: e.g. "%"; empty: a plain number.
        better: `HIGHER`, `LOWER`, or None where neither is plainly better.
        group: one of this module's groups, or any other word.
    """

    name: str
    label: str
    decimals: int
    unit: str = ""
    better: str | None = None
    group: str = ""

    def text(self, value: float, sign: str = "", more: int = 0) -> str:
        """The value with its decimals (and `more`); `sign` "+" writes the sign of positive values, too."""
        decimals = self.decimals + more
        return f"{round(value, decimals) + 0.0:{sign}.{decimals}f}"  # the sum makes -0.0 a plain 0


class Catalogue:
    """Figures by name, in the order in which they were registered."""

    def __init__(self, figures: Mapping[str, Figure] | None = None) -> None:
        self._figures = dict(figures or {})
        self._foreign: set[str] = set()  # those of modules outside this package

    def register(self, figures: Iterable[Figure], module: str) -> None:
        """Add the figures that `module` gives.

        Raises:
            UserError: a name is taken, or a figure is not what `Figure` asks for.
        """
        for figure in figures:
            fault = _fault(asdict(figure))
            if self._match(figure.name) is not None:
                fault = "is registered already; choose another name"
            if fault:
                raise UserError(f"the figure {figure.name!r} of {module} {fault}.")
            self._figures[figure.name] = figure
            if module.partition(".")[0] != __name__.partition(".")[0]:
                self._foreign.add(figure.name)

    def find(self, name: str) -> Figure:
        """The figure of a key of metrics.json or a column of results.csv, derived from its base (see the module).

        One that nobody registered is called by its name and has three decimals.
        """
        base, words, family = self._derivation(name)
        known = self._known(base) or Figure(name, base.replace("_", " "), 3)
        return replace(known, name=name, label=words.format(known.label), group=family or known.group)

    def names(self, *groups: str) -> list[str]:
        """Names of the registered figures of some groups, in order, without patterns."""
        return [figure.name for figure in self._figures.values() if figure.group in groups and "*" not in figure.name]

    def probe_columns(self) -> list[str]:
        """Columns of the headline probes: accuracies and ranks, then the accuracies on annotated boxes."""
        return self.names(ACCURACY, RANK) + [ON_BOXES + name for name in self.names(ACCURACY)]

    def facts(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """What a reader must be told of figures from outside this package; `names` as in `find`."""
        used = {figure.name for name in names if (figure := self._match(self._derivation(name)[0])) is not None}
        return [asdict(figure) for figure in self._figures.values() if figure.name in used & self._foreign]

    def with_facts(self, facts: Iterable[Any]) -> Catalogue:
        """This catalogue with figures as `facts` gave them; what is known already, or is no figure, is left out."""
        read = Catalogue(self._figures)
        for fact in facts:
            room = len(read._figures) < len(self._figures) + _MOST_FACTS
            if room and isinstance(fact, dict) and not _fault(fact) and read._match(fact["name"]) is None:
                read._figures[fact["name"]] = Figure(**fact)
        return read

    def _derivation(self, name: str) -> tuple[str, str, str]:
        """Name of the base figure, its label's place in the label of `name` ("COCO {}"), and the family, if any."""
        before, per_class, of_class = name.partition("AP-")
        if per_class and not before.rpartition("/")[2]:  # a class may have any name
            where, variants, at = before.split("/")[:-1], [(per_class + of_class, "")], ""
        else:
            rest, mark, test_set = name.partition("@")
            *where, base = rest.split("/")
            variants, at = _variants(base), mark + test_set
        exact = [variant for variant in variants if variant[0] in self._figures]
        found = exact or [variant for variant in variants[::-1] if self._match(variant[0])] or variants[-1:]
        start = "".join(f"{FAMILIES.get(part, part)} " for part in where if part not in (BOX, PROBE))
        outside = [text.replace("{", "{{").replace("}", "}}") for text in (start, found[0][1] + at)]
        return found[0][0], "{}".join(outside), next((part for part in where if part in FAMILIES), "")

    def _known(self, name: str) -> Figure | None:
        """The figure of a base name; the text that a pattern's * stands for is in its label."""
        figure = self._match(name)
        if figure is None or figure.name == name:
            return figure
        start, _, end = figure.name.partition("*")
        return replace(figure, label=figure.label.replace("*", name[len(start) : len(name) - len(end)]))

    def _match(self, name: str) -> Figure | None:
        """As it was registered: by its very name, else by a pattern."""
        if name in self._figures:
            return self._figures[name]
        for figure in self._figures.values():
            start, star, end = figure.name.partition("*")
            if star and name.startswith(start) and name.endswith(end) and len(name) > len(start) + len(end):
                return figure
        return None


CATALOGUE = Catalogue()


def _variants(name: str) -> list[tuple[str, str]]:
    """(What `name` may be derived from, words for what is taken off), the name itself first."""
    plain = [(name, "")] + ([(name.removesuffix(AFTER), " after")] if name.endswith(AFTER) else [])
    boxes = [(text.removeprefix(ON_BOXES), " on boxes" + words) for text, words in plain if text.startswith(ON_BOXES)]
    return plain + boxes


def _fault(fact: Mapping[str, Any]) -> str:
    """What is wrong with the values of a figure, which may come from a file that nobody vouches for; empty: nothing."""
    kinds = {"name": str, "label": str, "decimals": int, "unit": str, "better": str | None, "group": str}
    if set(fact) != set(kinds) or not all(isinstance(fact[key], kind) for key, kind in kinds.items()):
        return f"must have {', '.join(kinds)}, each of its type"
    if not _NAME.fullmatch(fact["name"]) or fact["name"].count("*") > 1:
        return "must have a name of letters, digits, _, - and at most one *"
    if not all(0 <= len(fact[key]) <= _LONGEST and fact[key].isprintable() for key in ("label", "unit", "group")):
        return f"must have a printable label, unit and group of at most {_LONGEST} characters"
    if not 0 <= fact["decimals"] <= _MOST_DECIMALS:
        return f"has {fact['decimals']} decimals; it must lie in [0, {_MOST_DECIMALS}]"
    if fact["better"] not in (HIGHER, LOWER, None):
        return f"has better={fact['better']!r}; it must be {HIGHER!r}, {LOWER!r} or None"
    return ""
