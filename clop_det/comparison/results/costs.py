"""What a setting costs: computing time of each stage, and labels that pretraining saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clop_det.comparison.results.reading import number, read_object
from clop_det.comparison.results.runs import Run
from clop_det.comparison.results.summary import Comparison, Summary

STAGES = {"pretraining": ("pretrain", "convert"), "fine-tuning": ("detect",)}
_SPLIT_NAME = "label_split.json"  # written by `pretraining.data`


@dataclass(frozen=True)
class SettingCost:
    """Means over the seeds of a setting.

    Attributes:
        stages: stage -> amount of each unit ("GPU-seconds", "core-seconds"); of a stage that there is not, none. One
            whose cost nobody noted is absent: that of a given checkpoint's pretraining, for one.
        labels: class labels that pretraining saw; None: not known.
        joules: part of the machine -> joules of all stages; empty: not noted for all of them.
    """

    stages: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    labels: int | None = None
    joules: Mapping[str, float] = field(default_factory=dict)

    @property
    def energy(self) -> str:
        """ "12.3 kJ (processors), 45.6 kJ (GPUs)", or a dash."""
        return ", ".join(f"{joules / 1000:,.3g} kJ ({part})" for part, joules in self.joules.items()) or "–"  # noqa: RUF001

    def text(self, stage: str) -> str:
        """ "1,900 core-seconds", "0", or a dash where nothing is noted."""
        if stage not in self.stages:
            return "–"  # noqa: RUF001 (a dash)
        return ", ".join(f"{amount:,.0f} {unit}" for unit, amount in self.stages[stage].items()) or "0"


def setting_costs(comparison: Comparison) -> list[SettingCost]:
    """The cost of each summary of the comparison, in order."""
    by_folder = {run.folder: run for run in comparison.runs.values()}
    return [
        SettingCost(_stages(summary, by_folder), _labels(summary), _joules(summary, by_folder))
        for summary in comparison.summaries
    ]


def _drawn(summary: Summary) -> bool:
    """Whether its detectors started from random weights: nothing was made for them."""
    kinds = [set(row.folders) for row in summary.rows if "detect" in row.folders]
    return bool(kinds) and not any(found & set(STAGES["pretraining"]) for found in kinds)


def _stages(summary: Summary, runs: Mapping[Path, Run]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {"pretraining": {}} if _drawn(summary) else {}
    for stage, kinds in STAGES.items():
        whole = [row for row in summary.rows if kinds[0] in row.folders]
        seeds = [[runs[row.folders[kind]] for kind in kinds if kind in row.folders] for row in whole]
        costs = [costs for jobs in seeds if (costs := [job.cost for job in jobs if job.cost is not None])]
        units = sorted({cost.unit for seed in costs for cost in seed})
        if costs:
            found[stage] = {
                unit: _mean([sum(c.amount for c in seed if c.unit == unit) for seed in costs]) for unit in units
            }
    return found


def _joules(summary: Summary, runs: Mapping[Path, Run]) -> dict[str, float]:
    kinds = [kind for stage in STAGES.values() for kind in stage]
    seeds = [[runs[row.folders[kind]].joules for kind in kinds if kind in row.folders] for row in summary.rows]
    known = [[job for job in jobs if job] for jobs in seeds if jobs and all(jobs)]
    parts = dict.fromkeys(part for jobs in known for job in jobs for part in job)
    return {part: _mean([sum(job.get(part, 0.0) for job in jobs) for jobs in known]) for part in parts}


def _labels(summary: Summary) -> int | None:
    if _drawn(summary):
        return 0
    folders = [row.folders["pretrain"] for row in summary.rows if "pretrain" in row.folders]
    if not folders:
        return None
    if summary.setting.label_fraction is None:
        return 0
    counts: list[Any] = [read_object(folder / _SPLIT_NAME).get("labelled_images") for folder in folders]
    known = [float(count) for count in counts if number(count, 0, 1e12)]
    return round(_mean(known)) if known else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
