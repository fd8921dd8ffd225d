"""The tables of the page, of results.md and results.tex, and the one that is printed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

from tabulate import tabulate

from clop_det.comparison.report.escaping import latex, markdown
from clop_det.comparison.results.overlap import overlap_notes
from clop_det.comparison.results.statistics import Interval, PairedDifference
from clop_det.comparison.results.summary import Comparison, Summary
from clop_det.figures import ACCURACY, AFTER, BOX, CLASSES, FAMILIES, LOWER, ON_BOXES, PRECISION, SETTING, Figure

_OF_CLASS = "AP-"
_MOST_SETTINGS = 12  # columns of a table whose columns are settings
_MEANING = {  # of columns of the further tables
    "RankMe": "in how many directions the features spread",
    "nc1": "the spread within classes over the spread of the class means",
    "orthogonal frame gap": "how far the class means are from standing at right angles (0: they do)",
    "simplex etf gap": "how far the centred class means are from standing equally far apart (0: they do)",
    "within class effective rank": "in how many directions a class spreads around its mean",
}
MISSING = "–"  # noqa: RUF001 (a dash)


def main_columns(comparison: Comparison) -> list[str]:
    """Figures of the main table: the metric, the AP family, the probes of the initialisation and after fine-tuning."""
    found = {column for summary in comparison.summaries for column in summary.metrics}
    catalogue = comparison.catalogue
    after = [probe + AFTER for probe in catalogue.names(ACCURACY)]
    wanted = [comparison.metric, *catalogue.names(PRECISION), *catalogue.probe_columns(), *after]
    return [column for column in dict.fromkeys(wanted) if column in found or column == comparison.metric]


def main_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the table of settings, in the order of the matrix (never ranked)."""
    columns = main_columns(comparison)
    several = len({summary.setting.detection for summary in comparison.summaries}) > 1
    header = ["initialisation", *(["detection"] if several else []), "labels", "seeds"]
    shown = [comparison.catalogue.find(column) for column in columns]
    header += [shown[0].label, f"against {comparison.baseline}", *(figure.label for figure in shown[1:])]
    lines = []
    for summary in comparison.summaries:
        setting = summary.setting
        cells = [comparison.label(summary), *([setting.detection] if several else []), percent(setting.label_fraction)]
        cells.append(seeds(summary))
        figures = [spread(summary.metrics.get(figure.name), figure) for figure in shown]
        lines.append([*cells, figures[0], difference_text(summary, comparison), *figures[1:]])
    return header, lines


def printed_table(comparison: Comparison) -> str:
    """The main table for the terminal, with its notes."""
    header, lines = main_table(comparison)
    table = tabulate(lines, header, tablefmt="simple", disable_numparse=True)
    return "\n".join([*comparison.first_lines, table, "", *notes(comparison)])


def markdown_table(comparison: Comparison) -> str:
    """The main table in Markdown."""
    header, lines = main_table(comparison)
    cells = [[markdown(cell) for cell in line] for line in lines]
    return tabulate(cells, [markdown(name) for name in header], tablefmt="github", disable_numparse=True)


def latex_table(comparison: Comparison) -> str:
    """The main table as a LaTeX tabular (booktabs)."""
    header, lines = main_table(comparison)
    body = [*(f"% {' '.join(note.split())}" for note in comparison.first_lines), r"% needs \usepackage{booktabs}"]
    body += [rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule"]
    body += [" & ".join(map(latex, header)) + r" \\", r"\midrule"]
    body += [" & ".join(map(latex, cells)) + r" \\" for cells in lines]
    body += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*body, *(f"% {' '.join(note.split())}" for note in notes(comparison))]) + "\n"


def notes(comparison: Comparison) -> list[str]:
    """What a reader must know beside the figures."""
    texts = []
    metric = comparison.catalogue.find(comparison.metric).label
    if comparison.most_seeds == 1:
        texts.append(
            "One seed: no interval and no test, so this table ranks nothing. Add seeds (COMPARE.SEEDS) for a verdict."
        )
    elif comparison.most_seeds > 1:
        texts.append(
            "Mean ± half of the 95 % t interval over seeds. " + comparison.rules.sentence(compared(comparison))
        )
    if any(summary.setting.detection for summary in comparison.summaries):
        texts.append("kNN, linear and RankMe are those of the initialisation; “after”: of the fine-tuned backbone.")
    missing = sum(row.status != "done" for row in comparison.rows)
    if missing:
        texts.append(f"{missing} of {len(comparison.rows)} runs have no final {metric} yet.")
    ran = [row.folders["detect"] for row in comparison.rows if row.status == "done" and "detect" in row.folders]
    return texts + overlap_notes(ran, comparison.boundary)


def verdicts(comparison: Comparison) -> list[str]:
    """Sentences for the head of the report; nothing is ranked from one seed."""
    return [sentence for sentence in (verdict(summary, comparison) for summary in comparison.summaries) if sentence]


def verdict(summary: Summary, comparison: Comparison) -> str:
    """The difference of a setting from the baseline in a sentence; empty with fewer than two paired seeds."""
    figure, difference = comparison.catalogue.find(comparison.metric), summary.difference
    if difference is None or difference.interval.n < 2:
        return ""
    interval = difference.interval
    where = ", ".join(filter(None, [summary.setting.detection, percent(summary.setting.label_fraction, "labels")]))
    higher, lower = ("is ahead of", "is behind") if figure.better else ("is above", "is below")
    text = {"ahead": higher, "behind": lower}.get(standing(difference, figure), "cannot be told from")
    head = f"{summary.setting.label} {text} {comparison.baseline}{f' ({where})' if where else ''}:"
    head += f" {figure.text(interval.mean, '+')} {figure.label},"
    if difference.verdict == "no spread":
        return f"{head} equal in all {interval.n} seeds, so there is no spread to test."
    bounds = f"95 % interval {figure.text(interval.low, '+')} to {figure.text(interval.high, '+')}"
    return f"{head} {bounds}, {interval.n} seeds, p = {p_text(difference.p_corrected)}."


def compared(comparison: Comparison) -> int:
    """How many differences have a p value: what Holm's correction counts."""
    found = (summary.difference for summary in comparison.summaries)
    return sum(difference is not None and not math.isnan(difference.p_t) for difference in found)


def standing(difference: PairedDifference, figure: Figure) -> str:
    """The verdict of a difference, where "ahead" means better: lower, for a figure where lower is better."""
    swapped = {"ahead": "behind", "behind": "ahead"} if figure.better == LOWER else {}
    return swapped.get(difference.verdict, difference.verdict)


def family_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and cells: AP, AP50 and AP75 by COCO's and by VOC's rules, from the same detections."""
    columns = [f"{family}/{name}" for family in FAMILIES for name in comparison.catalogue.names(PRECISION)]
    return _table(comparison, [column for column in columns if column in _found(comparison)])


def further_tables(comparison: Comparison) -> list[tuple[str, list[str], list[list[str]]]]:
    """What the other tables have no room for: probes, geometry, sizes; no classes, no settings.

    Returns:
        (title, header, cells): a table for whole images and one for annotated boxes, before and after fine-tuning.
        The title says which, so the names of the columns do not.
    """
    shown, apart = main_columns(comparison), (BOX, *FAMILIES, CLASSES, SETTING)
    columns = [column for column in _found(comparison) if column not in shown]
    columns = [column for column in columns if comparison.catalogue.find(column).group not in apart]
    tables = []
    for after, boxes in itertools.product((False, True), repeat=2):
        own = [c for c in columns if (c.endswith(AFTER), c.startswith(ON_BOXES)) == (after, boxes)]
        header, lines = _table(comparison, own)
        header = [name.removesuffix(" after").removesuffix(" on boxes") for name in header]
        title = ("after" if after else "before") + " fine-tuning" + ", on annotated boxes" * boxes
        tables += [(title, header, lines)] if own else []
    return tables


def meanings(headers: Iterable[Sequence[str]]) -> str:
    """What the columns of the further tables mean, as far as their names do not say it."""
    names = {name for header in headers for name in header}
    return " ".join(f"{name}: {text}." for name, text in _MEANING.items() if name in names)


def class_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and cells: AP of each class of the test set, a column for each setting; no line without two classes.

    A class without a box in the test set has no line: COCO's rule leaves it out, and VOC's counts it as 0.
    """
    names = dict.fromkeys(column for column in _found(comparison) if column.startswith(_OF_CLASS))
    tested = [name for name in names if f"coco/{name}" in _found(comparison)]
    shown = comparison.summaries[:_MOST_SETTINGS]
    lines = [
        [name.removeprefix(_OF_CLASS), *(spread(s.metrics.get(name), comparison.catalogue.find(name)) for s in shown)]
        for name in tested
    ]
    return ["class", *setting_names(comparison, shown)], lines if len(lines) > 1 else []


def setting_names(comparison: Comparison, shown: Sequence[Summary]) -> list[str]:
    """Names of settings as columns: with their share of labels, and the detection config where there are several."""
    several = len({summary.setting.detection for summary in shown}) > 1
    names = []
    for summary in shown:
        setting = summary.setting
        parts = [setting.label, percent(setting.label_fraction, "labels"), setting.detection if several else ""]
        names.append(" · ".join(filter(None, parts)))
    return names


def _found(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(column for summary in comparison.summaries for column in summary.metrics))


def _table(comparison: Comparison, columns: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    figures = [comparison.catalogue.find(column) for column in columns]
    lines = [
        [comparison.label(summary), percent(summary.setting.label_fraction)]
        + [spread(summary.metrics.get(figure.name), figure) for figure in figures]
        for summary in comparison.summaries
    ]
    return ["initialisation", "labels", *(figure.label for figure in figures)], lines


def spread(interval: Interval | None, figure: Figure) -> str:
    """ "31.2 ± 1.4", or "31.2" for one seed."""
    if interval is None:
        return MISSING
    text = figure.text(interval.mean)
    return text if interval.n < 2 else f"{text} ± {figure.text(interval.half)}"


def difference_text(summary: Summary, comparison: Comparison) -> str:
    """The difference against the baseline, with its interval and p, or what keeps it from having them."""
    if summary.setting.init == comparison.baseline:
        return "baseline"
    if summary.difference is None:
        return MISSING
    return paired_text(summary.difference, comparison.catalogue.find(comparison.metric))


def paired_text(difference: PairedDifference, figure: Figure) -> str:
    """ "+3.1 [+1.2, +5.0] p .02", or "+3.1 (1 seed)"."""
    interval = difference.interval
    mean, low, high = (figure.text(value, "+") for value in (interval.mean, interval.low, interval.high))
    if interval.n < 2:
        return f"{mean} (1 seed)"
    if difference.verdict == "no spread":
        return f"{mean} (equal in {interval.n} seeds)"
    return f"{mean} [{low}, {high}] p {p_text(difference.p_corrected)}"


def p_text(p: float) -> str:
    """ "0.031", "< 0.001" or a dash."""
    return MISSING if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def percent(fraction: float | None, unit: str = "") -> str:
    """ "10 %", or a dash where labels play no part."""
    return (MISSING if not unit else "") if fraction is None else f"{100 * fraction:g} % {unit}".strip()


def seeds(summary: Summary) -> str:
    """ "3", or "2 of 3" while some are missing."""
    total = len(summary.rows)
    return str(total) if summary.finished == total else f"{summary.finished} of {total}"


def join_lines(parts: Iterable[str] | Sequence[str]) -> str:
    """Blocks of text with an empty line between them and a newline at the end."""
    return "\n\n".join(part for part in parts if part) + "\n"
