"""What COMPARE.SEQUENTIAL would have spent and said of comparisons that ran all their seeds.

python benchmarks/replay.py output/digits_ten_seeds [more output folders ...]
python benchmarks/replay.py output/digits_ten_seeds --orders 1000 --output replay.json
python benchmarks/replay.py output/digits_ten_seeds --metric AP AP50 linear_top1 --baseline random info_nce clop

A folder is the OUTPUT_DIR of a finished comparison with at least four seeds (or an unpacked report.zip). The seeds are
taken one after the other, in the order of the matrix and then in other orders. Printed are, for every row, the verdict
of the whole matrix (paired t test, Holm's correction) and that of the sequence, the seeds that the row took, and which
share of the jobs and of their computing time the sequence ran, pretrainings and the baseline's runs included. Several
metrics and baselines are replayed each with each.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from clop_det.comparison.names import FIRST_LOOK
from clop_det.comparison.results.judging import Pair, Rules, judge
from clop_det.comparison.results.rows import Setting
from clop_det.comparison.results.sequential import decide
from clop_det.comparison.results.summary import Comparison, pairs_of, read_comparison
from clop_det.errors import UserError


def replay(comparison: Comparison, orders: int = 0) -> dict[str, Any]:
    """Replay a comparison's seeds.

    Args:
        comparison: one whose rows have all their seeds.
        orders: further orders of the seeds, drawn.

    Returns:
        {"name", "metric", "seeds", "rows": [...], "jobs": {"all", "run", "share", "time"}, "orders": {...} or None}.

    Raises:
        UserError: too few seeds, a row that lacks some, or a comparison that was itself run in sequence.
    """
    seeds = list(dict.fromkeys(row.seed for row in comparison.rows))
    if comparison.rules.seeds:
        raise UserError(
            f"{comparison.name} was run with COMPARE.SEQUENTIAL, so there is no whole matrix to compare with."
        )
    if len(seeds) <= FIRST_LOOK:
        raise UserError(f"{comparison.name} has {len(seeds)} seeds; a replay needs at least {FIRST_LOOK + 1}.")
    pairs = pairs_of(comparison.summaries, comparison.metric)
    lacking = [name.label for name, pair in pairs.items() if set(pair.differences) != set(seeds)]
    if lacking or not pairs:
        raise UserError(f"{comparison.name}: no row, or not all seeds of {', '.join(lacking) or 'any'}.")
    whole = {name: item.verdict for name, item in judge(pairs, Rules()).items()}
    found, took = in_sequence(pairs, seeds)
    rows = [
        {
            "row": " ".join(filter(None, [name.label, name.detection])),
            "difference": float(np.mean(list(pair.differences.values()))),
            "spread": float(np.std(list(pair.differences.values()), ddof=1)),
            "whole": whole[name],
            "in_sequence": found[name],
            "seeds": took[name],
        }
        for name, pair in pairs.items()
    ]
    shown = {
        "name": comparison.name,
        "metric": comparison.metric,
        "baseline": comparison.baseline,
        "seeds": seeds,
        "rows": rows,
    }
    return {
        **shown,
        "jobs": spent(comparison, pairs, seeds, took),
        "orders": reordered(comparison, pairs, whole, seeds, orders),
    }


def in_sequence(pairs: Mapping[Setting, Pair], seeds: Sequence[int]) -> tuple[dict[Setting, str], dict[Setting, int]]:
    """(verdict, seeds that the row took) of each row."""
    decided = decide({name: pair.differences for name, pair in pairs.items()}, seeds)
    verdicts = {name: item.verdict for name, item in judge(pairs, Rules(seeds=tuple(seeds))).items()}
    return verdicts, {name: decision.seeds for name, decision in decided.items()}


def spent(
    comparison: Comparison, pairs: Mapping[Setting, Pair], seeds: Sequence[int], took: Mapping[Setting, int]
) -> dict[str, float]:
    """How many of the matrix's jobs the sequence runs, and the share of jobs and of seconds."""
    last = dict(took)
    for name, pair in pairs.items():  # the baseline runs as long as any row that is compared with it
        last[pair.against] = max(last.get(pair.against, 0), took[name])
    every: set[Path] = set()
    run: set[Path] = set()
    for row in comparison.rows:
        every |= set(row.folders.values())
        if seeds.index(row.seed) < last.get(row.setting, len(seeds)):
            run |= set(row.folders.values())
    seconds = {job.folder: job.cost.amount for job in comparison.runs.values() if job.cost}
    total = sum(seconds.get(folder, 0.0) for folder in every)
    time = sum(seconds.get(folder, 0.0) for folder in run) / total if total else float("nan")
    return {"all": len(every), "run": len(run), "share": len(run) / len(every), "time": time}


def reordered(
    comparison: Comparison, pairs: Mapping[Setting, Pair], whole: Mapping[Setting, str], seeds: list[int], orders: int
) -> dict[str, Any] | None:
    """The same over drawn orders: the share of jobs, and how often all verdicts, and each row's, are the matrix's."""
    if not orders:
        return None
    draw = np.random.default_rng(0)
    shares, same = [], []
    for _ in range(orders):
        order = [int(seed) for seed in draw.permutation(seeds)]
        found, took = in_sequence(pairs, order)
        shares.append(spent(comparison, pairs, order, took)["share"])
        same.append([found[name] == whole[name] for name in pairs])
    return {
        "count": orders,
        "share": float(np.mean(shares)),
        "share_5_to_95": [float(value) for value in np.quantile(shares, (0.05, 0.95))],
        "all_same": float(np.mean([all(one) for one in same])),
        "same": [float(value) for value in np.mean(same, axis=0)],
    }


def table(found: Mapping[str, Any]) -> str:
    """The replay as text."""
    orders, jobs = found["orders"], found["jobs"]
    lines = [
        [
            row["row"],
            f"{row['difference']:+.2f}",
            f"{row['spread']:.2f}",
            row["whole"],
            row["in_sequence"],
            row["seeds"],
        ]
        + ([f"{orders['same'][index]:.2f}"] if orders else [])
        for index, row in enumerate(found["rows"])
    ]
    names = ["row", "difference", "spread", "whole matrix", "in sequence", "seeds"] + ["same, other orders"] * bool(
        orders
    )
    text = f"{found['name']}: {found['metric']}, {len(found['seeds'])} seeds\n\n{tabulate(lines, names)}\n\n"
    text += f"{jobs['run']} of {jobs['all']} jobs ({jobs['share']:.0%}), {jobs['time']:.0%} of the computing time"
    if orders:
        low, high = orders["share_5_to_95"]
        text += (
            f"\n{orders['count']} other orders: {orders['share']:.0%} of the jobs on average ({low:.0%} to {high:.0%}),"
        )
        text += f" all verdicts those of the whole matrix in {orders['all_same']:.0%}"
    return text


def average(found: Sequence[Mapping[str, Any]]) -> str:
    """Several replays in a line."""
    shares = [one["orders"]["share"] for one in found]
    every = [one["orders"]["all_same"] for one in found]
    same = [share for one in found for share in one["orders"]["same"]]
    called = sum(row["whole"] in ("ahead", "behind") for one in found for row in one["rows"])
    return (
        f"{np.mean(shares):.1%} of the jobs, all verdicts those of the whole matrix in {np.mean(every):.1%},"
        f" {np.mean(same):.1%} of {len(same)} verdicts ({called} of them differences)"
    )


def main() -> None:
    """Replay each comparison and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="OUTPUT_DIR of finished comparisons")
    parser.add_argument("--orders", type=int, default=200, help="further orders of the seeds (default: 200)")
    parser.add_argument(
        "--baseline", nargs="+", default=[""], help="initialisations to compare with (default: the comparison's)"
    )
    parser.add_argument("--metric", nargs="+", default=[""], help="columns of results.csv (default: the comparison's)")
    parser.add_argument("--output", type=Path, help="write what was found as JSON, too")
    args = parser.parse_args()
    found = []
    for folder, baseline, metric in itertools.product(args.folders, args.baseline, args.metric):
        found.append(replay(read_comparison([folder], baseline, metric), args.orders))
        print(table(found[-1]), end="\n\n")
    if len(found) > 1 and args.orders:
        print(f"{len(found)} comparisons, on average over orders: {average(found)}")
    if args.output:
        args.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
