"""What the benchmarks share: contenders that take turns, ratios within the rounds, and the file of figures.

A busy machine slows all contenders of a round alike, so a ratio is the median of the ratios within the rounds, with
the smallest and the largest of them. `bench.py` reads the key "ratios" of the files that `write_figures` writes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from clop_det.files import write_json

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
HIGHER, LOWER = "higher", "lower"
Name = TypeVar("Name", bound=Hashable)


def in_turns(runs: Mapping[Name, Callable[[], float]], rounds: int) -> dict[Name, list[float]]:
    """What each run gives in every round.

    Another one comes first each round: whoever comes first finds the caches of whoever came last.
    """
    found: dict[Name, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(runs[name]())
    return found


def seconds_of(function: Callable[[], object], clock: Callable[[], float] = time.perf_counter, times: int = 1) -> float:
    """Seconds of one call by `clock`, the mean of `times` calls."""
    start = clock()
    for _ in range(times):
        function()
    return (clock() - start) / times


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratio(numerators: Sequence[float], denominators: Sequence[float], better: str) -> dict[str, Any]:
    """Median, smallest and largest of the ratios within the rounds, and whether a HIGHER or a LOWER one is better."""
    return {**spread([a / b for a, b in zip(numerators, denominators, strict=True)]), "better": better}


def told(found: Mapping[str, Any], decimals: int = 2) -> str:
    """`1.22 (1.20 to 1.25)`."""
    median, least, most = (f"{found[key]:.{decimals}f}" for key in ("median", "min", "max"))
    return f"{median} ({least} to {most})"


def write_figures(
    path: Path | None, arguments: argparse.Namespace, ratios: Mapping[str, Mapping[str, Any]], **figures: Any
) -> None:
    """Write what was measured, with what it was measured with; nothing without a path.

    Args:
        path: JSON file.
        arguments: the command line.
        ratios: what is compared -> `ratio`; its name says what is over what.
        figures: what else there is to keep.
    """
    if path is not None:
        from clop_det.provenance import collect_provenance  # torch: whoever measures a process's memory starts small

        settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(arguments).items() if k != "output"}
        content = {**figures, "ratios": ratios, "settings": settings, "provenance": collect_provenance()}
        write_json(path, content)
