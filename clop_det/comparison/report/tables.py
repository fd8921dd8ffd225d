"""The tables of the page, of results.md and results.tex, and the one that is printed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from tabulate import tabulate

from clop_det.comparison.report.escaping import latex, markdown
from clop_det.comparison.results.rows import BOX_METRICS, FAMILIES, PROBES
from clop_det.comparison.results.statistics import Interval, PairedDifference
from clop_det.comparison.results.summary import Comparison, Summary

NAMES = {
    "knn_top1": "kNN",
    "linear_top1": "linear",
    "rankme": "RankMe",
    "object_knn_top1": "kNN on boxes",
    "object_linear_top1": "linear on boxes",
    "embedding_rankme": "RankMe of embeddings",
    "embedding_mean_norm": "length of the mean embedding",
    "knn_top1_finetuned": "kNN after",
    "linear_top1_finetuned": "linear after",
    "rankme_finetuned": "RankMe after",
    "object_knn_top1_finetuned": "kNN on boxes after",
    "object_linear_top1_finetuned": "linear on boxes after",
}
FAMILY_NAMES = {"coco": "COCO", "voc07": "VOC07", "voc12": "VOC12", "segm": "mask"}
MISSING = "–"  # noqa: RUF001 (a dash)


def main_columns(comparison: Comparison) -> list[str]:
    """Figures of the main table: the metric, the AP family, the probes of the initialisation and after fine-tuning."""
    found = {column for summary in comparison.summaries for column in summary.metrics}
    after = [f"{probe}_finetuned" for probe in PROBES[:2]]
    wanted = [comparison.metric, *BOX_METRICS[:3], *PROBES, *after]
    return [column for column in dict.fromkeys(wanted) if column in found or column == comparison.metric]


def main_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the table of settings, in the order of the matrix (never ranked)."""
    columns = main_columns(comparison)
    several = len({summary.setting.detection for summary in comparison.summaries}) > 1
    header = ["initialisation", *(["detection"] if several else []), "labels", "seeds"]
    header += [NAMES.get(columns[0], columns[0]), f"against {comparison.baseline}"]
    header += [NAMES.get(column, column) for column in columns[1:]]
    lines = []
    for summary in comparison.summaries:
        setting = summary.setting
        cells = [setting.label, *([setting.detection] if several else []), percent(setting.label_fraction)]
        cells.append(seeds(summary))
        figures = [spread(summary.metrics.get(column), column) for column in columns]
        lines.append([*cells, figures[0], difference_text(summary, comparison), *figures[1:]])
    return header, lines


def printed_table(comparison: Comparison) -> str:
    """The main table for the terminal, with its notes."""
    header, lines = main_table(comparison)
    return "\n".join([tabulate(lines, header, tablefmt="simple", disable_numparse=True), "", *notes(comparison)])


def markdown_table(comparison: Comparison) -> str:
    """The main table in Markdown."""
    header, lines = main_table(comparison)
    cells = [[markdown(cell) for cell in line] for line in lines]
    return tabulate(cells, [markdown(name) for name in header], tablefmt="github", disable_numparse=True)


def latex_table(comparison: Comparison) -> str:
    """The main table as a LaTeX tabular (booktabs)."""
    header, lines = main_table(comparison)
    body = [r"% needs \usepackage{booktabs}", rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule"]
    body += [" & ".join(map(latex, header)) + r" \\", r"\midrule"]
    body += [" & ".join(map(latex, cells)) + r" \\" for cells in lines]
    body += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*body, *(f"% {' '.join(note.split())}" for note in notes(comparison))]) + "\n"


def notes(comparison: Comparison) -> list[str]:
    """What a reader must know beside the figures."""
    texts = []
    metric = NAMES.get(comparison.metric, comparison.metric)
    if comparison.most_seeds == 1:
        texts.append(
            "One seed: no interval and no test, so this table ranks nothing. Add seeds (COMPARE.SEEDS) for a verdict."
        )
    elif comparison.most_seeds > 1:
        texts.append(
            f"Mean ± half of the 95 % t interval over seeds. Differences are paired by seed; p from the paired t test,"
            f" Holm-corrected over {compared(comparison)} comparisons."
        )
    if any(summary.setting.detection for summary in comparison.summaries):
        texts.append("kNN, linear and RankMe are those of the initialisation; “after”: of the fine-tuned backbone.")
    missing = sum(row.status != "done" for row in comparison.rows)
    if missing:
        texts.append(f"{missing} of {len(comparison.rows)} runs have no final {metric} yet.")
    return texts


def verdicts(comparison: Comparison) -> list[str]:
    """Sentences for the head of the report; nothing is ranked from one seed."""
    metric = NAMES.get(comparison.metric, comparison.metric)
    sentences = []
    for summary in comparison.summaries:
        difference = summary.difference
        if difference is None or difference.interval.n < 2:
            continue
        interval, places = difference.interval, digits(comparison.metric)
        where = ", ".join(filter(None, [summary.setting.detection, percent(summary.setting.label_fraction, "labels")]))
        higher, lower = ("is ahead of", "is behind") if more_is_better(comparison.metric) else ("is above", "is below")
        text = {"ahead": higher, "behind": lower}.get(difference.verdict, "cannot be told from")
        head = f"{summary.setting.label} {text} {comparison.baseline}{f' ({where})' if where else ''}:"
        head += f" {interval.mean:+.{places}f} {metric},"
        sentences.append(
            f"{head} equal in all {interval.n} seeds, so there is no spread to test."
            if difference.verdict == "no spread"
            else f"{head} 95 % interval {interval.low:+.{places}f} to {interval.high:+.{places}f},"
            f" {interval.n} seeds, p = {p_text(difference.p_corrected)}."
        )
    return sentences


def compared(comparison: Comparison) -> int:
    """How many differences have a p value: what Holm's correction counts."""
    found = (summary.difference for summary in comparison.summaries)
    return sum(difference is not None and not math.isnan(difference.p_t) for difference in found)


def more_is_better(column: str) -> bool:
    """Whether a higher figure is plainly the better one (AP, accuracies, ranks); of lengths and gaps nobody can say."""
    name = column.rsplit("/", 1)[-1]
    return name.startswith("AP") or "top1" in name or "rankme" in name


def family_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and cells: AP, AP50 and AP75 by COCO's and by VOC's rules, from the same detections."""
    columns = [f"{family}/{metric}" for family in FAMILIES[1:] for metric in BOX_METRICS[:3]]
    return _table(comparison, [column for column in columns if column in _found(comparison)])


def further_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and cells of what the other tables have no room for: probes, geometry, sizes; no classes."""
    shown = {*main_columns(comparison), "linear_l2", "linear_l2_finetuned"}
    columns = [column for column in _found(comparison) if column not in shown and not _in_family(column)]
    return _table(comparison, columns)


def _in_family(column: str) -> bool:
    return "AP-" in column or column.split("/")[0] in FAMILIES


def _found(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(column for summary in comparison.summaries for column in summary.metrics))


def _table(comparison: Comparison, columns: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    lines = [
        [summary.setting.label, percent(summary.setting.label_fraction)]
        + [spread(summary.metrics.get(column), column) for column in columns]
        for summary in comparison.summaries
    ]
    names = [NAMES.get(column, _spoken(column)) for column in columns]
    return ["initialisation", "labels", *names], lines


def _spoken(column: str) -> str:
    """ "coco/AP50" -> "COCO AP50", "nc1_finetuned" -> "nc1 after"."""
    family, _, rest = column.rpartition("/")
    text = f"{FAMILY_NAMES.get(family, family)} {rest}" if family else rest
    return text.replace("_finetuned", " after").replace("_", " ")


def spread(interval: Interval | None, column: str) -> str:
    """ "31.2 ± 1.4", or "31.2" for one seed."""
    if interval is None:
        return MISSING
    places = digits(column)
    text = f"{interval.mean:.{places}f}"
    return text if interval.n < 2 else f"{text} ± {interval.half:.{places}f}"


def difference_text(summary: Summary, comparison: Comparison) -> str:
    """The difference against the baseline, with its interval and p, or what keeps it from having them."""
    if summary.setting.init == comparison.baseline:
        return "baseline"
    if summary.difference is None:
        return MISSING
    return paired_text(summary.difference, comparison.metric)


def paired_text(difference: PairedDifference, column: str) -> str:
    """ "+3.1 [+1.2, +5.0] p .02", or "+3.1 (1 seed)"."""
    interval, places = difference.interval, digits(column)
    if interval.n < 2:
        return f"{interval.mean:+.{places}f} (1 seed)"
    if difference.verdict == "no spread":
        return f"{interval.mean:+.{places}f} (equal in {interval.n} seeds)"
    return (
        f"{interval.mean:+.{places}f} [{interval.low:+.{places}f}, {interval.high:+.{places}f}]"
        f" p {p_text(difference.p_corrected)}"
    )


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


def digits(column: str) -> int:
    """Decimals that a column deserves: three for shares, lengths and gaps, one for AP and ranks."""
    return 3 if any(part in column for part in ("top1", "gap", "nc1", "mean_norm")) else 1


def join_lines(parts: Iterable[str] | Sequence[str]) -> str:
    """Blocks of text with an empty line between them and a newline at the end."""
    return "\n\n".join(part for part in parts if part) + "\n"
