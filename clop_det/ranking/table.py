"""A ranking as text, as CSV and as a picture."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from clop_det.figures import CATALOGUE, ON_BOXES
from clop_det.files import atomic_write, write_text
from clop_det.ranking.measuring import RULE_MEASURES
from clop_det.ranking.ranking import Ranking
from clop_det.ranking.ranking_file import write_ranking_file
from clop_det.ranking.rule import RANKS, Rule

_OTHERS = ("rankme", "nesum", "alpha_req", "idest", "two_nn", "sigreg")
_PLAIN_LIMIT = (
    "The score is relative to the checkpoints named here. The rule has not been calibrated on fine-tunings: an interval"
    " says how much a score depends on the images, not how well it predicts AP."
)
_SPECTRUM = (
    "RankMe, NESum, alpha-ReQ and LiDAR may only compare runs of one method, as the paper of RankMe says; the rule does"
    " not use them."
)


def write_ranking(ranking: Ranking, output: Path) -> list[Path]:
    """Write ranking.txt, ranking.csv, ranking.svg and ranking.json into `output`; returns their paths."""
    paths = [output / f"ranking.{ending}" for ending in ("txt", "csv", "svg")]
    write_text(paths[0], text(ranking) + "\n")
    write_text(paths[1], _csv(ranking))
    with atomic_write(paths[2]) as file:
        picture(ranking).savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return [*paths, write_ranking_file(ranking, output)]


def text(ranking: Ranking) -> str:
    """The table for people: the score, then the measures of the rule; the others stand in the CSV."""
    scores = {standing.name: standing for standing in ranking.standings}
    width = max(map(len, ranking.measured))
    labels = [CATALOGUE.find(name).label for name in ranking.rule.measures]
    lines = [f"{'checkpoint':<{width}}  {'score':>6}  {'behind the first':>18}  " + "  ".join(labels)]
    for name in [*scores, *(name for name in ranking.measured if name not in scores)]:
        standing = scores.get(name)
        score, behind = ("", "") if standing is None else (f"{standing.score:+.2f}", "")
        if standing is not None and standing.name != ranking.standings[0].name:
            behind = f"{standing.behind:.2f} +- {standing.uncertain:.2f}"
        figures = ranking.measured[name].figures
        values = [
            f"{CATALOGUE.find(key).text(figures[key]):>{len(label)}}"
            for key, label in zip(ranking.rule.measures, labels, strict=True)
        ]
        lines.append(f"{name:<{width}}  {score:>6}  {behind:>18}  " + "  ".join(values))
    boxes, images = ranking.objects
    notes = [ranking.verdict, *(f"left out: {name}: {why}" for name, why in ranking.left_out.items())]
    if ranking.waiting:
        notes.append(f"not begun within the budget: {', '.join(ranking.waiting)}; the same command goes on.")
    if ranking.early:
        best = sorted(ranking.early.items(), key=lambda item: -item[1])
        aps = ", ".join(f"{name} {ap:.1f}" for name, ap in best)
        notes.append(f"AP after a tenth of the schedule, on training images left out: {aps}.")
    notes += [f"no early AP: {name}: {why}" for name, why in ranking.early_failed.items()]
    notes += [f"Measured on {boxes} boxes of {images} training images.", *_limits(ranking.rule)]
    return "\n".join([*lines, "", *notes])


def _limits(rule: Rule) -> list[str]:
    if not rule.runs:
        return [_PLAIN_LIMIT, _SPECTRUM]
    if math.isinf(rule.margin):
        told = "none of its scores ordered 95 % of their pairs as their AP, so it tells nothing apart."
    else:
        told = f"scores less than {rule.margin:.2f} apart do not tell which fine-tuning is better."
    return [f"Rule: {rule.name}, chosen on {rule.runs} fine-tunings; {told}", _SPECTRUM]


def _csv(ranking: Ranking) -> str:
    columns = [*RULE_MEASURES, "lidar", *(ON_BOXES + name for name in _OTHERS)]
    scores = {standing.name: standing for standing in ranking.standings}
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(["checkpoint", "score", "behind", "uncertain", "seconds", "early_ap", *columns])
    for name, measured in ranking.measured.items():
        standing = scores.get(name)
        facts: Sequence[float | str] = (
            ["", "", ""] if standing is None else [standing.score, standing.behind, standing.uncertain]
        )
        writer.writerow(
            [
                name,
                *facts,
                ranking.seconds.get(name, ""),
                ranking.early.get(name, ""),
                *(measured.figures.get(c, "") for c in columns),
            ]
        )
    return content.getvalue()


def picture(ranking: Ranking) -> Figure:
    """Scores with the 95 % interval of their distance to the first; what is not told apart from it is filled."""
    found = ranking.standings[::-1]
    figure = Figure(figsize=(6.4, 1.2 + 0.34 * len(found)), layout="constrained")
    axes = figure.add_subplot()
    for row, standing in enumerate(found):
        filled = not standing.apart
        axes.errorbar(
            standing.score, row, xerr=standing.uncertain, fmt="o", color="#0f7fb8", mfc="#0f7fb8" if filled else "white"
        )
    axes.set_yticks(
        range(len(found)), [standing.name for standing in found], parse_math=False
    )  # names may hold dollars
    axes.axvline(found[-1].score, color="#8a8f98", linewidth=0.8, linestyle=":")
    unit = "ranks from 0 to 1" if ranking.rule.by == RANKS else "standard deviations over the checkpoints"
    axes.set_xlabel(f"score, in {unit}")
    axes.set_title("Bars: 95 % of the distance to the first. Filled: not told apart from it.", fontsize=9, loc="right")
    return figure
