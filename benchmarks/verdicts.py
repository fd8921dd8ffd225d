"""Simulations behind docs/results/statistics.md: how often the statistics of a comparison keep what they promise.

python benchmarks/verdicts.py                  # everything, into docs/results/statistics.json
python benchmarks/verdicts.py --trials 200 --output x.json   # quicker and coarser

A file that exists is completed: what it holds is not simulated again.

Every trial draws figures of rows and seeds, and lets the functions that reports use judge them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clop_det.comparison.results import sequential
from clop_det.comparison.results.dunnett import pooled_differences
from clop_det.comparison.results.power import expected_power, forecast
from clop_det.comparison.results.sequential import LEVEL, decide
from clop_det.comparison.results.statistics import holm, t_test

OUTPUT = Path(__file__).parents[1] / "docs" / "results" / "statistics.json"
ROWS = 4  # beside the baseline
# Effects of the rows in units of the spread of one paired difference: none, small, of one spread, clear, large.
EFFECTS = (0.0, 0.5, 1.0, 2.0, 5.0)
# Mean over spread of the paired differences of stored comparisons with three seeds each (docs/results): digits (InfoNCE
# and CLOP against random) and blood cells (CLOP against random).
STORED = {"digits": (3.03 / 3.04, 11.3 / 0.61), "bccd": (7.5 / 7.3,)}


def figures(draw: np.random.Generator, effects: tuple[float, ...], seeds: int) -> NDArray[np.float64]:
    """(1 + rows, seeds): the baseline and the rows; a seed moves all, and a difference has a spread of 1."""
    own = draw.normal(size=(1 + len(effects), seeds)) / math.sqrt(2)
    return own + draw.normal(size=seeds) * 3 + np.array([0.0, *effects])[:, None]


def differences(values: NDArray[np.float64]) -> list[list[float]]:
    """Rows minus baseline."""
    return [list(map(float, row - values[0])) for row in values[1:]]


def full_verdicts(values: NDArray[np.float64]) -> list[bool]:
    """Whether the whole matrix calls each difference: paired t test, Holm's correction."""
    return [p < LEVEL for p in holm([t_test(row) for row in differences(values)])]


def dunnett_verdicts(values: NDArray[np.float64]) -> list[bool]:
    """The same under the pooled model."""
    rows = [dict(enumerate(map(float, row))) for row in values]
    found = pooled_differences(rows[1:], rows[0])
    return [item is not None and item.p_corrected < LEVEL for item in found]


def sequential_verdicts(values: NDArray[np.float64]) -> tuple[list[bool], list[int]]:
    """The same with seeds one after the other, and how many seeds each row took."""
    seeds = range(values.shape[1])
    given = {index: dict(zip(seeds, row, strict=True)) for index, row in enumerate(differences(values))}
    found = decide(given, seeds)
    order = sorted(found)
    return [found[index].p < LEVEL for index in order], [found[index].seeds for index in order]


def false_verdicts(trials: int, seeds: int, judge: Callable[[NDArray[np.float64]], list[bool]]) -> dict[str, Any]:
    """Share of comparisons without any true difference that call one, and that call one "ahead"."""
    draw = np.random.default_rng(seeds)
    any_called = ahead = 0
    for _ in range(trials):
        values = figures(draw, (0.0,) * ROWS, seeds)
        called = judge(values)
        any_called += any(called)
        means = [sum(row) for row in differences(values)]
        ahead += any(is_called and mean > 0 for is_called, mean in zip(called, means, strict=True))
    return {"trials": trials, "seeds": seeds, "called": any_called / trials, "ahead": ahead / trials}


def agreement(trials: int, seeds: int, effects: tuple[float, ...] = EFFECTS) -> dict[str, Any]:
    """Sequential seeds against the whole matrix: equal verdicts by effect, and the share of jobs."""
    draw = np.random.default_rng(100 + seeds)
    rows = len(effects)
    same, full_called, called, jobs = np.zeros(rows), np.zeros(rows), np.zeros(rows), 0.0
    for _ in range(trials):
        values = figures(draw, effects, seeds)
        full, (found, took) = np.array(full_verdicts(values)), sequential_verdicts(values)
        same, full_called, called = same + (full == found), full_called + full, called + np.array(found)
        jobs += (sum(took) + max(took)) / (seeds * (rows + 1))  # the baseline runs as long as any row
    return {
        "trials": trials,
        "seeds": seeds,
        "effects": effects,
        "same": list(same / trials),
        "called_by_all_seeds": list(full_called / trials),
        "called_in_sequence": list(called / trials),
        "jobs": jobs / trials,
    }


def alternatives(trials: int, seeds: int = 10) -> list[dict[str, Any]]:
    """Agreement and jobs where other shares of the futures call a row, or give it up."""
    kept = sequential._SURE, sequential._HOPELESS
    found = []
    for sure, hopeless in itertools.product((0.99, 0.995, 0.999), (0.2, 0.3, 0.4, 0.5)):
        sequential._SURE, sequential._HOPELESS = sure, hopeless
        found.append({"sure": sure, "hopeless": hopeless, **agreement(trials, seeds)})
    sequential._SURE, sequential._HOPELESS = kept
    return found


def power_kept(trials: int, pilot: int, effect: float) -> dict[str, Any]:
    """The power that a forecast from a pilot promises, and how often the test then finds the difference."""
    draw = np.random.default_rng(1000 * pilot + int(10 * effect))
    said = kept = 0.0
    needed = []
    for _ in range(trials):
        first = draw.normal(effect, 1, pilot)
        std = float(first.std(ddof=1))
        n = forecast(std, pilot, effect).needed or 1000
        values = [*first, *draw.normal(effect, 1, n - pilot)]
        said += expected_power(std, pilot, effect, n)
        kept += t_test(values) < LEVEL and sum(values) > 0
        needed.append(n)
    return {
        "trials": trials,
        "pilot": pilot,
        "effect": effect,
        "forecast": said / trials,
        "kept": kept / trials,
        "median_seeds": float(np.median(needed)),
    }


def main() -> None:
    """Run every simulation and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    fewer = args.trials // 10
    studies: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "null_sequential": lambda: [
            false_verdicts(args.trials, seeds, lambda values: sequential_verdicts(values)[0]) for seeds in (5, 10)
        ],
        "null_dunnett": lambda: [false_verdicts(args.trials, seeds, dunnett_verdicts) for seeds in (3, 5)],
        "null_paired": lambda: [false_verdicts(args.trials, seeds, full_verdicts) for seeds in (3, 5)],
        "agreement": lambda: [agreement(fewer, seeds) for seeds in (5, 8, 10)],
        "stored": lambda: [
            {"name": name, **agreement(fewer, seeds, effects)} for name, effects in STORED.items() for seeds in (5, 10)
        ],
        "alternatives": lambda: alternatives(fewer),
        "power": lambda: [power_kept(fewer, pilot, effect) for pilot in (3, 5, 8) for effect in (0.5, 1.0, 2.0)],
    }
    found: dict[str, Any] = json.loads(args.output.read_text()) if args.output.exists() else {}
    for name, study in studies.items():
        if name not in found:
            found[name] = study()
            args.output.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
