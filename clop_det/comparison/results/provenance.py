"""What the report says of its sources: code, versions, machines, time and cost."""

from __future__ import annotations

from collections.abc import Iterable

from clop_det.comparison.names import KINDS
from clop_det.comparison.results.rows import Row
from clop_det.comparison.results.runs import Cost, Run
from clop_det.comparison.results.summary import Comparison
from clop_det.engine.clock import clock

_SHOWN = ("commit", "clop_det", "torch", "torchvision", "detectron2", "python", "device")
JOB_HEADER = ("job", "state", "wall time", "cost", "starts", "device", "commit", "config", "finished")


def common_facts(comparison: Comparison) -> list[tuple[str, str]]:
    """(name, value) for what all jobs share, or the list of what they have."""
    facts = []
    for key in _SHOWN:
        values = _values(used_runs(comparison), key)
        if values:
            facts.append((key, ", ".join(values)))
    seconds = [run.seconds for run in used_runs(comparison) if run.seconds is not None]
    if seconds:
        facts.append(("wall time of all jobs", f"{clock(sum(seconds))} (h:mm:ss or m:ss), {len(seconds)} jobs"))
    costs = total_cost(used_runs(comparison))
    if costs:
        facts.append(("cost", ", ".join(cost.text for cost in costs)))
    return facts


def warnings(comparison: Comparison) -> list[str]:
    """Reasons to doubt that the rows are comparable."""
    lines = []
    for key in ("commit", "torch", "device"):
        values = _values(used_runs(comparison), key)
        if len(values) > 1:
            lines.append(f"The jobs differ in {key}: {', '.join(values)}.")
    if any(run.provenance("commit_dirty") == "True" for run in used_runs(comparison)):
        lines.append("Some jobs ran from a checkout with uncommitted changes.")
    return lines


def job_lines(comparison: Comparison) -> list[list[str]]:
    """Cells of the table of jobs, in the order in which they stand on disk."""
    lines = []
    for run in used_runs(comparison):
        seconds = "" if run.seconds is None else clock(run.seconds)
        lines.append(
            [
                run.folder.name,
                run.status,
                seconds,
                run.cost.text if run.cost else "",
                str(len(run.record.get("attempts") or []) or ""),
                run.provenance("device"),
                run.provenance("commit")[:10],
                (run.record.get("digest") or run.provenance("config_sha256"))[:10],
                run.provenance("finished"),
            ]
        )
    return lines


def used_runs(comparison: Comparison) -> list[Run]:
    """The runs that any row's figures come from."""
    folders = {folder for row in comparison.rows for folder in row.folders.values()}
    return [run for run in comparison.runs.values() if run.folder in folders]


def runs_of(row: Row, comparison: Comparison) -> list[Run]:
    """The runs behind a row, the main one last."""
    folders = set(row.folders.values())
    runs = [run for run in comparison.runs.values() if run.folder in folders and run.kind != "inspect"]
    return sorted(runs, key=lambda run: KINDS.index(run.kind))


def run_facts(runs: Iterable[Run]) -> dict[str, str]:
    """Columns of results.csv that say where a row's figures come from: those of its main run, and the cost of all."""
    runs = list(runs)
    last = runs[-1] if runs else None
    costs = {cost.unit: f"{cost.amount:.0f}" for cost in total_cost(runs)}
    return {
        "commit": last.provenance("commit") if last else "",
        "device": last.provenance("device") if last else "",
        "config": str(last.record.get("digest") or last.provenance("config_sha256"))[:10] if last else "",
        "seconds": f"{sum(run.seconds or 0 for run in runs):.0f}" if any(run.seconds for run in runs) else "",
        "gpu_seconds": costs.get("GPU-seconds", ""),
        "core_seconds": costs.get("core-seconds", ""),
    }


def source_line(comparison: Comparison) -> str:
    """One sentence below the figures: how many runs, of which code, where."""
    done = sum(row.status == "done" for row in comparison.rows)
    commits = ", ".join(commit[:10] for commit in _values(used_runs(comparison), "commit"))
    parts = [f"From {done} of {len(comparison.rows)} runs"]
    parts += [f"commit {commits}"] if commits else []
    parts += _values(used_runs(comparison), "device")
    return ", ".join(parts) + "."


def total_cost(runs: Iterable[Run]) -> list[Cost]:
    """The cost of several runs together, GPUs and cores apart."""
    amounts: dict[str, float] = {}
    for cost in filter(None, (run.cost for run in runs)):
        amounts[cost.unit] = amounts.get(cost.unit, 0.0) + cost.amount
    return [Cost(amount, unit) for unit, amount in sorted(amounts.items())]


def _values(runs: Iterable[Run], key: str) -> list[str]:
    return sorted({value for run in runs if (value := run.provenance(key))})
