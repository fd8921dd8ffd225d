"""What the report says of its sources: code, versions, machines, time and cost."""

from __future__ import annotations

from collections.abc import Iterable

from clop_det.comparison.progress import clock
from clop_det.comparison.runs import Run
from clop_det.comparison.summary import Comparison

_SHOWN = ("commit", "clop_det", "torch", "torchvision", "detectron2", "python", "device")
JOB_HEADER = ("job", "state", "wall time", "starts", "device", "commit", "config", "finished")


def common_facts(comparison: Comparison) -> list[tuple[str, str]]:
    """(name, value) for what all jobs share, or the list of what they have."""
    facts = []
    for key in _SHOWN:
        values = _values(comparison.runs.values(), key)
        if values:
            facts.append((key, ", ".join(values)))
    seconds = [run.seconds for run in comparison.runs.values() if run.seconds is not None]
    if seconds:
        facts.append(("wall time of all jobs", f"{clock(sum(seconds))} (h:mm:ss or m:ss), {len(seconds)} jobs"))
    gpu = [
        run.seconds for run in comparison.runs.values() if run.seconds and _provenance(run, "device").startswith("cuda")
    ]
    if gpu:
        facts.append(("cost", f"{sum(gpu):.0f} GPU-seconds"))
    return facts


def warnings(comparison: Comparison) -> list[str]:
    """Reasons to doubt that the rows are comparable."""
    lines = []
    for key in ("commit", "torch", "device"):
        values = _values(comparison.runs.values(), key)
        if len(values) > 1:
            lines.append(f"The jobs differ in {key}: {', '.join(values)}.")
    if any((run.results or {}).get("provenance", {}).get("commit_dirty") for run in comparison.runs.values()):
        lines.append("Some jobs ran from a checkout with uncommitted changes.")
    return lines


def job_lines(comparison: Comparison) -> list[list[str]]:
    """Cells of the table of jobs, in the order in which they stand on disk."""
    lines = []
    for run in comparison.runs.values():
        seconds = "" if run.seconds is None else clock(run.seconds)
        lines.append(
            [
                run.folder.name,
                run.status,
                seconds,
                str(len(run.record.get("attempts", [])) or ""),
                _provenance(run, "device"),
                _provenance(run, "commit")[:10],
                (run.record.get("digest") or _provenance(run, "config_sha256"))[:10],
                _provenance(run, "finished"),
            ]
        )
    return lines


def _values(runs: Iterable[Run], key: str) -> list[str]:
    return sorted({value for run in runs if (value := _provenance(run, key))})


def _provenance(run: Run, key: str) -> str:
    value = (run.results or {}).get("provenance", {}).get(key)
    return "" if value is None else str(value)
