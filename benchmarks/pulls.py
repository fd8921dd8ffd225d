"""The pulls of configs/compare/pulls.yaml against the linear one of the same base, with one correction over all.

    python benchmarks/pulls.py output/pulls/report/results.csv [linear_top1]

Prints a table in Markdown: means over the seeds, paired differences with their 95 % t intervals, and the p values of
the paired t tests after Holm's correction over all comparisons of the table. Only seeds that both sides have count.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

from clop_det.comparison.results.statistics import PairedDifference, holm, mean_interval, paired_difference

BASES, PULLS = ("info_nce", "supcon", "none"), ("linear", "squared", "softmax", "ntce", "nonl")


def read(path: Path, metric: str) -> dict[tuple[str, str], dict[int, float]]:
    """(initialisation, label fraction) -> seed -> figure, of the finished runs."""
    found: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row[metric] and row["status"] == "done":
                found[row["init"], row["label_fraction"]][int(row["seed"])] = float(row[metric])
    return found


def main(path: Path, metric: str) -> None:
    """Print the table of one metric."""
    values = read(path, metric)
    fractions = sorted({fraction for _, fraction in values if fraction}, key=float)
    cells = [(base, fraction, pull) for fraction in fractions for base in BASES for pull in PULLS]
    against: dict[tuple[str, str, str], PairedDifference] = {}
    for base, fraction, pull in cells:
        ours, linear = values.get((f"{base}-{pull}", fraction), {}), values.get((f"{base}-linear", fraction), {})
        difference = paired_difference(ours, linear) if pull != "linear" else None
        if difference is not None:
            against[base, fraction, pull] = difference
    corrected = dict(zip(against, holm([found.p_t for found in against.values()]), strict=True))
    tested = sum(found.interval.n > 1 for found in against.values())
    print(f"| labels | base | pull | seeds | {metric} | against linear | 95 % interval | p (Holm over {tested}) |")
    print("|---|---|---|---:|---:|---:|---|---:|")
    for base, fraction, pull in cells:
        own = values.get((f"{base}-{pull}", fraction))
        if not own:
            continue
        line = (
            f"| {float(fraction):.0%} | {base} | {pull} | {len(own)} | {mean_interval(list(own.values())).mean:.3f} |"
        )
        found = against.get((base, fraction, pull))
        if found is None or found.interval.n < 2:
            print(f"{line}{'' if found is None else f' {found.interval.mean:+.3f}'} | | |")
            continue
        interval, p = found.interval, corrected[base, fraction, pull]
        print(f"{line} {interval.mean:+.3f} | {interval.low:+.3f} to {interval.high:+.3f} | {p:.3g} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "linear_top1")
