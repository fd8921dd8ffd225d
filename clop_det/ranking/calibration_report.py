"""A calibration as Markdown: the rules with what choosing by them costs, and what losses and data sets say that had no
part in the choice."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from clop_det.ranking.choosing import Calibration, LeftOut
from clop_det.ranking.judging import Judged
from clop_det.ranking.rule import PLAIN

_HEADER = ("rule", "regret, AP", "regret, SD of seeds", "regret of runs, AP", "best found", "Kendall", "Spearman")
NOTES = (
    "Regret: AP of the best setting, as a mean over its seeds, less that of the setting whose run has the highest score"
    " of its seed. Regret of runs: the same with the AP of the very runs, to which luck belongs. Intervals: 95 %, from"
    " drawing the settings of each task with replacement.",
    "RankMe, NESum, alpha-ReQ and LiDAR may only compare runs of one method, as the paper of RankMe says. They stand"
    " here beside the others and are never part of a rule.",
)


def markdown(found: Calibration) -> str:
    """The page."""
    settings = {(row.task, row.setting) for row in found.rows}
    lines = [
        "# Calibration of clop-det rank",
        "",
        f"{len(found.rows)} fine-tunings of {len(settings)} settings, choices by seed: {_sizes(found)}.",
        "",
        *_cost(found),
        "",
        *_table(found.judged),
        "",
        *_elsewhere("loss", found.by_loss),
        *_elsewhere("data set", found.by_data),
        _margin(found),
        "",
        *(line for note in NOTES for line in (note, "")),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _sizes(found: Calibration) -> str:
    tasks = dict.fromkeys(group.rows[0].task for group in found.groups)
    texts = []
    for task in tasks:
        groups = [group for group in found.groups if group.rows[0].task == task]
        sizes = sorted({len(group.rows) for group in groups})
        spread = f"; SD of AP over seeds {groups[0].deviation:.2f}" if groups[0].deviation > 0 else ""
        texts.append(f"{task} ({len(groups)} seeds of {' or '.join(map(str, sizes))} settings{spread})")
    return "; ".join(texts)


def _cost(found: Calibration) -> list[str]:
    if math.isnan(found.cost):
        return ["What the fine-tunings cost is not known."]
    return [f"The figures cost {100 * found.cost:.2g} % of the core-seconds of the fine-tunings."]


def _table(judged: Sequence[Judged]) -> list[str]:
    lines = [f"| {' | '.join(_HEADER)} |", f"|{'---|' * len(_HEADER)}"]
    for index, item in enumerate(judged):
        name = "the calibrated rule: " * (index == 0) + item.rule.name + ", not calibrated" * (item.rule == PLAIN)
        cells = [item.regret.text(), item.regret_deviations.text(), item.run_regret.text(), f"{100 * item.hits:.0f} %"]
        lines.append(f"| {' | '.join([name, *cells, item.kendall.text(), item.spearman.text()])} |")
    return lines


def _elsewhere(kind: str, found: LeftOut | None) -> Iterable[str]:
    if found is None:
        yield f"There are too few runs to choose a rule without one {kind} and judge it where it is back."
    else:
        regret, deviations = found.mean
        relative = "" if math.isnan(deviations) else f", {deviations:.2f} standard deviations over seeds"
        yield (
            f"Chosen without one {kind} and judged where it is back: regret {regret:.2f} AP{relative}"
            f" ({', '.join(f'{name} {value:.2f} AP' for name, value in found.regrets.items())})."
            f" Chosen were {', '.join(f'{name} ({count}x)' for name, count in found.chosen.most_common())}."
        )
    yield ""


def _margin(found: Calibration) -> str:
    if math.isinf(found.rule.margin):
        return "No difference between scores orders 95 % of the pairs as their AP: the rule cannot tell anything apart."
    return (
        f"Pairs of settings whose scores differ by at least {found.rule.margin:.2f} are ordered as their AP in 95 % of"
        " the cases: what lies closer is not told apart."
    )
