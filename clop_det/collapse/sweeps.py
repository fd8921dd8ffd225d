"""Many simulations as tables: against the learning rate, and over labelled fraction and weight."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clop_det.collapse.dynamics import simulate
from clop_det.collapse.points import effective_ranks, mean_cosines, mean_norms, random_points
from clop_det.losses import orthonormal_prototypes

# Similarities of the runs that are simulated side by side: 1 MiB in float32.
_BATCH_ELEMENTS = 1 << 18


@dataclass(frozen=True)
class Scenario:
    """What acts on the points.

    Attributes:
        rule: of the update, see `dynamics.step`.
        attraction: InfoNCE whole (True) or its repulsion alone.
        labelled_fraction: 0..1 of the points that are pulled to prototypes.
        weight: lambda of the pull.
    """

    rule: str = "ambient"
    attraction: bool = False
    labelled_fraction: float = 0.0
    weight: float = 0.0


@dataclass(frozen=True)
class Size:
    """How large a simulation is: n points in R^d, K classes, full-batch steps."""

    count: int = 50
    dim: int = 50
    classes: int = 10
    steps: int = 500


@dataclass(frozen=True)
class Row:
    """One simulated run: its settings and what was measured at its end."""

    scenario: Scenario
    temperature: float
    ratio: float  # eta / T, of the sum-reduced loss
    seed: int
    effective_rank: float
    mean_norm: float
    mean_cosine: float

    def flat(self) -> dict[str, str | float]:
        """One line of the CSV."""
        scenario = self.scenario
        return {
            "force": "infonce" if scenario.attraction else "repulsion",
            "rule": scenario.rule,
            "labelled_fraction": scenario.labelled_fraction,
            "weight": scenario.weight,
            "temperature": self.temperature,
            "learning_rate_over_temperature": self.ratio,
            "seed": self.seed,
            "effective_rank": round(self.effective_rank, 4),
            "mean_norm": round(self.mean_norm, 6),
            "mean_cosine": round(self.mean_cosine, 6),
        }


def class_labels(count: int, fraction: float, classes: int) -> Tensor:
    """Labels (n,) of which the first round(f n) run through the classes in turn and the rest are -1.

    Raises:
        ValueError: fraction outside 0..1.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction={fraction}: must lie in 0..1")
    index = torch.arange(count)
    return torch.where(index < round(fraction * count), index % classes, -1)


def learning_rate_sweep(
    scenarios: Sequence[Scenario],
    ratios: Sequence[float],
    temperatures: Sequence[float],
    seeds: Sequence[int],
    size: Size | None = None,
) -> list[Row]:
    """Every scenario at every eta / T, temperature and seed; side by side in batches.

    Args:
        scenarios: what acts on the points.
        ratios: eta / T >= 0, for the sum-reduced loss.
        temperatures: T > 0.
        seeds: of the starting points; one seed starts from the same points in every scenario.
        size: of each simulation.

    Raises:
        ValueError: an empty argument, or numbers out of range.
    """
    size = size or Size()
    if not (scenarios and ratios and temperatures and seeds):
        raise ValueError("scenarios, ratios, temperatures, seeds: each needs one value or more")
    rows: list[Row] = []
    for rule, attraction in dict.fromkeys((s.rule, s.attraction) for s in scenarios):
        chosen = [s for s in scenarios if (s.rule, s.attraction) == (rule, attraction)]
        runs = list(itertools.product(chosen, temperatures, ratios, range(len(seeds))))
        # Small batches stay in the processor's cache, which makes them twice as fast as one large one.
        at_once = max(1, _BATCH_ELEMENTS // size.count**2)
        for start in range(0, len(runs), at_once):
            rows += _simulate_runs(runs[start : start + at_once], seeds, size)
    return rows


def _simulate_runs(runs: Sequence[tuple[Scenario, float, float, int]], seeds: Sequence[int], size: Size) -> list[Row]:
    """Runs (scenario, T, eta / T, index of the seed) that share rule and attraction, side by side."""
    first = runs[0][0]
    starts = random_points(size.count, size.dim, seeds)
    temperature = torch.tensor([t for _, t, _, _ in runs])
    weight, labels, prototypes = _pull([scenario for scenario, *_ in runs], size)
    end = simulate(
        starts[[index for *_, index in runs]],
        temperature * torch.tensor([ratio for _, _, ratio, _ in runs]),
        temperature,
        rule=first.rule,
        attraction=first.attraction,
        weight=weight,
        labels=labels,
        prototypes=prototypes,
        steps=size.steps,
    )
    measured = torch.stack([effective_ranks(end), mean_norms(end), mean_cosines(end)], dim=1).tolist()
    return [
        Row(scenario, t, ratio, seeds[index], *values)
        for (scenario, t, ratio, index), values in zip(runs, measured, strict=True)
    ]


def _pull(scenarios: Sequence[Scenario], size: Size) -> tuple[Tensor | float, Tensor | None, Tensor | None]:
    """Weight, labels and prototypes of each run for `simulate`; nothing if no run has a pull."""
    if not any(s.weight * s.labelled_fraction for s in scenarios):
        return 0.0, None, None
    labels = torch.stack([class_labels(size.count, s.labelled_fraction, size.classes) for s in scenarios])
    return torch.tensor([s.weight for s in scenarios]), labels, orthonormal_prototypes(size.classes, size.dim, seed=0)


def measured_threshold(temperature: float, ratios: Sequence[float], seeds: Sequence[int], size: Size) -> float:
    """eta / T at which repulsion alone collapses under the rule "ambient": between the last run that kept more than
    half of the starting effective rank and the first that did not, in median over the seeds.

    Args:
        temperature: T > 0.
        ratios: rising eta / T to try; their spacing is the resolution.
        seeds: of the starting points.
        size: of each simulation.

    Raises:
        ValueError: `ratios` do not bracket the threshold.
    """
    rows = learning_rate_sweep([Scenario()], ratios, [temperature], seeds, size)
    half = min(size.count - 1, size.dim) / 2
    ranks = {ratio: [row.effective_rank for row in rows if row.ratio == ratio] for ratio in ratios}
    collapsed = [sorted(ranks[ratio])[len(seeds) // 2] < half for ratio in ratios]
    if collapsed[0] or not collapsed[-1]:
        raise ValueError(f"ratios={ratios[0]:g}..{ratios[-1]:g}: must bracket the threshold")
    first = collapsed.index(True)
    return (ratios[first - 1] + ratios[first]) / 2


def phase_diagram(
    fractions: Sequence[float],
    weights: Sequence[float],
    ratio: float,
    temperature: float,
    size: Size,
    seeds: Sequence[int] = (0,),
) -> Tensor:
    """Effective rank with CLOP at a learning rate past the threshold: mean over the seeds, (fractions, weights).

    Args:
        fractions: labelled fractions in 0..1.
        weights: lambda >= 0.
        ratio: eta / T.
        temperature: T > 0.
        size: of each simulation.
        seeds: of the starting points.

    Raises:
        ValueError: an empty argument, or numbers out of range.
    """
    scenarios = [Scenario(labelled_fraction=f, weight=w) for f in fractions for w in weights]
    rows = learning_rate_sweep(scenarios, [ratio], [temperature], seeds, size)
    ranks = torch.tensor([row.effective_rank for row in rows], dtype=torch.float64)
    return ranks.view(len(fractions), len(weights), len(seeds)).mean(dim=2)
