"""How figures name things: settings, conditions, metrics; and what they share in drawing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from clop_det.comparison.report.style import MARK_OF_ROW
from clop_det.comparison.report.tables import percent
from clop_det.comparison.results.rows import Setting
from clop_det.comparison.results.summary import Comparison, Summary
from clop_det.figures import Figure

LIMIT = 10  # settings in one figure


def legend(axes: Axes) -> None:
    """A legend above the axes, where it covers nothing, in as many columns as the figure is wide (at most three)."""
    for columns in (3, 2, 1):
        drawn = axes.legend(
            loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, handlelength=1.6, columnspacing=1.4
        )
        if drawn.get_window_extent().width <= axes.figure.bbox.width:
            return


def marked(comparison: Comparison, settings: Iterable[Setting]) -> str:
    """The id of what a drawing shows of these settings: it lights up with their lines in the page's tables."""
    rows = {summary.setting: row for row, summary in enumerate(comparison.summaries)}
    return MARK_OF_ROW + "-".join(str(rows[setting]) for setting in settings if setting in rows)


def left_out(count: int, limit: int = LIMIT) -> str:
    """What a caption adds where a figure shows the first `limit` of `count` settings."""
    return f" The first {limit} of {count} settings." if count > limit else ""


def label_of(summary: Summary, among: Sequence[Summary]) -> str:
    """The setting's label, with labels and detection config where those differ among the ones shown."""
    parts = [summary.setting.label]
    if len({s.setting.label_fraction for s in among if s.setting.label_fraction is not None}) > 1:
        parts.append(percent(summary.setting.label_fraction, "labels"))
    if len({s.setting.detection for s in among}) > 1:
        parts.append(summary.setting.detection)
    return " · ".join(filter(None, parts))


def detections(comparison: Comparison) -> list[str]:
    """Names of the detection configs ("" for pretraining alone)."""
    return list(dict.fromkeys(summary.setting.detection for summary in comparison.summaries))


def fractions(comparison: Comparison) -> list[float | None]:
    """Label fractions, smallest first; [None] if labels play no part."""
    found = sorted({s.setting.label_fraction for s in comparison.summaries if s.setting.label_fraction is not None})
    return [*found] or [None]


def by_fraction(comparison: Comparison) -> list[tuple[float | None, list[Summary]]]:
    """For each label fraction its settings, those that use no labels among them."""
    return [
        (fraction, [s for s in comparison.summaries if s.setting.label_fraction in (fraction, None)])
        for fraction in fractions(comparison)
    ]


def of_detection(comparison: Comparison, detection: str) -> list[Summary]:
    """The settings of one detection config."""
    return [summary for summary in comparison.summaries if summary.setting.detection == detection]


def conditions(comparison: Comparison, detection: str, fraction: float | None) -> str:
    """ " (config, 10 % labels)": what a figure is about where the comparison has several."""
    parts = [detection] if detection and len(detections(comparison)) > 1 else []
    if fraction is not None and len(fractions(comparison)) > 1:
        parts.append(percent(fraction, "labels"))
    return f" ({', '.join(parts)})" if parts else ""


def fraction_suffix(comparison: Comparison, fraction: float | None) -> str:
    """What a figure's name ends in where each label fraction has one: "_10pct"."""
    if fraction is None or len(fractions(comparison)) < 2:
        return ""
    return "_" + percent(fraction).replace(" %", "pct")


def on_axis(figure: Figure) -> str:
    """The label as text of a picture; a $ in one that comes from a run folder must not begin a formula."""
    return figure.label.replace("$", r"\$")


def styled(curves: Mapping[str, Any], inits: Mapping[str, str]) -> list[tuple[str, tuple[str, Any]]]:
    """A line style for each curve: settings of one initialisation share a colour and differ in dashes."""
    dashes, used, result = ("-", "--", ":", "-."), dict.fromkeys(inits.values(), 0), []
    for label, values in curves.items():
        result.append((dashes[used[inits[label]] % len(dashes)], (label, values)))
        used[inits[label]] += 1
    return result
