"""The rules by which differences are judged, chosen in the comparison's config before there is a figure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clop_det.comparison.names import DUNNETT, PAIRED
from clop_det.comparison.results.dunnett import pooled_differences
from clop_det.comparison.results.rows import Setting
from clop_det.comparison.results.sequential import decide
from clop_det.comparison.results.statistics import PairedDifference, holm, paired_difference


@dataclass(frozen=True)
class Rules:
    """How the differences of a table are judged.

    Attributes:
        test: one of `names.TESTS`.
        seeds: all seeds of the matrix in order, where they are spent one after the other; () where all are run.
    """

    test: str = PAIRED
    seeds: tuple[int, ...] = ()

    def sentence(self, comparisons: int) -> str:
        """For the notes below a table."""
        if self.test == DUNNETT:
            return (
                "Differences are taken within seeds; one spread comes from all rows (additive model of rows and seeds),"
                f" p from Dunnett's test over {comparisons} comparisons."
            )
        if self.seeds:
            return (
                "Differences are paired by seed and judged after each seed. A row takes no further seed once more seeds"
                " would hardly change its verdict, or would probably show no difference. p from the paired t test over"
                f" the seeds that the row took, Holm-corrected over {comparisons} comparisons."
            )
        return (
            f"Differences are paired by seed; p from the paired t test, Holm-corrected over {comparisons} comparisons."
        )


@dataclass(frozen=True)
class Pair:
    """The figures of a setting and of the baseline's setting it is compared with, by seed."""

    values: Mapping[int, float]
    reference: Mapping[int, float]
    against: Setting

    @property
    def differences(self) -> dict[int, float]:
        """Setting minus baseline, for the seeds that both have."""
        return {seed: value - self.reference[seed] for seed, value in self.values.items() if seed in self.reference}


def rules_of(plan: Mapping[str, Any]) -> Rules:
    """The rules in plan.json; those of a plan that names none are the paired test over all seeds."""
    seeds = plan.get("sequential")
    return Rules(str(plan.get("test") or PAIRED), tuple(seeds) if isinstance(seeds, list) else ())


def judge(pairs: Mapping[Setting, Pair], rules: Rules) -> dict[Setting, PairedDifference]:
    """Every difference with its corrected p; settings without a seed in common with the baseline are left out."""
    if rules.test == DUNNETT:
        return _pooled(pairs)
    if rules.seeds:
        return _in_sequence(pairs, rules)
    found = {name: paired_difference(pair.values, pair.reference) for name, pair in pairs.items()}
    known = {name: difference for name, difference in found.items() if difference is not None}
    corrected = holm([difference.p_t for difference in known.values()])
    return {
        name: dataclasses.replace(difference, p_corrected=p)
        for (name, difference), p in zip(known.items(), corrected, strict=True)
    }


def wanted_runs(pairs: Mapping[Setting, Pair], rules: Rules) -> set[tuple[Setting, int]]:
    """(setting, seed) of the runs that open verdicts wait for, the baseline's included."""
    decisions = decide({name: pair.differences for name, pair in pairs.items()}, rules.seeds)
    return {
        (setting, seed)
        for name, decision in decisions.items()
        if not decision.settled
        for setting in (name, pairs[name].against)
        for seed in rules.seeds[: decision.seeds]
    }


def _pooled(pairs: Mapping[Setting, Pair]) -> dict[Setting, PairedDifference]:
    groups: dict[Setting, list[Setting]] = {}
    for name, pair in pairs.items():
        if pair.differences:  # a row without figures has no part in the model of the others
            groups.setdefault(pair.against, []).append(name)
    found: dict[Setting, PairedDifference] = {}
    for names in groups.values():
        rows = [pairs[name].values for name in names]
        judged = pooled_differences(rows, pairs[names[0]].reference, len(groups))
        found |= {name: item for name, item in zip(names, judged, strict=True) if item is not None}
    return found


def _in_sequence(pairs: Mapping[Setting, Pair], rules: Rules) -> dict[Setting, PairedDifference]:
    decisions = decide({name: pair.differences for name, pair in pairs.items()}, rules.seeds)
    found = {}
    for name, pair in pairs.items():
        decision = decisions[name]
        seeds = rules.seeds[: decision.seeds] if decision.settled else rules.seeds
        difference = paired_difference({s: v for s, v in pair.values.items() if s in seeds}, pair.reference)
        if difference is not None:
            p = decision.p if decision.settled else math.nan
            found[name] = dataclasses.replace(difference, p_corrected=p)
    return found
