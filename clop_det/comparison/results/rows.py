"""The rows of a comparison, read back from run folders alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clop_det.comparison.results.reading import clean, number
from clop_det.comparison.results.runs import Run
from clop_det.engine.metrics import read_metrics
from clop_det.figures import AFTER, BOX, FAMILIES, PROBE

GridPoint = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Setting:
    """What a row is about, but for the seed: rows of one setting are repetitions of each other."""

    init: str
    label_fraction: float | None
    detection: str
    pretrain_grid: GridPoint = ()
    detection_grid: GridPoint = ()

    @property
    def label(self) -> str:
        """Short name for tables and legends: the initialisation and the values of its grid."""
        return " · ".join(filter(None, [self.init, grid_text((*self.pretrain_grid, *self.detection_grid))]))


def grid_text(point: GridPoint) -> str:
    """ "base_lr 0.1 · ims_per_batch 64"."""
    return " · ".join(f"{key.split('.')[-1].lower()} {value}" for key, value in point)


@dataclass
class Row:
    """One run of a setting: its seed, state, figures and where they are.

    Attributes:
        metrics: column of results.csv -> figure; what is not known is absent.
        history: entries of the run's metrics.json that hold an evaluation, by iteration.
        folders: kind of job -> run folder.
        results: kind of job -> content of its results.json.
        finished: when its results were written, as text that sorts; "" if it has none.
    """

    setting: Setting
    seed: int
    status: str
    metrics: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    folders: dict[str, Path] = field(default_factory=dict)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    reason: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    finished: str = ""

    @property
    def folder(self) -> Path | None:
        """Of the run that the row is about; None if there is none yet."""
        return self.folders.get("detect") or self.folders.get("pretrain")


def planned_rows(runs: Mapping[str, Run], plans: Iterable[Mapping[str, Any]]) -> list[Row]:
    """One row for each cell of the plans, whether its run has ended, begun, or neither."""
    rows: dict[tuple[Setting, int, str], Row] = {}
    for plan in plans:
        for cell in plan["cells"]:
            names = {kind: cell[kind] for kind in ("pretrain", "convert", "detect", "inspect") if cell.get(kind)}
            key = setting_of(cell), int(cell["seed"]), names.get("detect") or names.get("pretrain", "")
            parts = {kind: runs.get(name) for kind, name in names.items()}
            rows.setdefault(key, _row(key[0], key[1], parts))
    return list(rows.values())


def other_rows(runs: Mapping[str, Run]) -> list[Row]:
    """Rows of runs that no plan knows: detections, and pretrainings that feed none."""
    feeding = {run.record.get("pretrain") for run in runs.values()}
    return [
        _lone_row(run, runs)
        for kind in ("detect", "pretrain")
        for name, run in runs.items()
        if run.kind == kind and name not in feeding
    ]


def one_a_seed(rows: Iterable[Row]) -> tuple[list[Row], list[str]]:
    """One row for each setting and seed, and remarks on those left out; two runs of one seed are no two repetitions.

    Of several (with configs that differ elsewhere, or of two comparisons) the one that ended last counts.
    """
    kept: dict[tuple[Setting, int], Row] = {}
    remarks = []
    for row in rows:
        key = row.setting, row.seed
        if key in kept:
            older, newer = sorted((kept[key], row), key=lambda item: (item.status == "done", item.finished))
            if older.folder is not None:
                remarks.append(f"{older.folder} is left out: {newer.folder} is of the same setting and seed.")
            row = newer
        kept[key] = row
    return list(kept.values()), remarks


def _lone_row(run: Run, runs: Mapping[str, Run]) -> Row:
    facts = {**(run.results or {}), **run.record}
    facts["init"] = facts.get("init") or clean(run.folder.name)
    if not run.record and run.kind == "detect":
        facts["detection"] = "detection"
    parts: dict[str, Run | None] = {run.kind: run}
    for kind in ("pretrain", "convert"):
        if run.record.get(kind):
            parts[kind] = runs.get(run.record[kind])
    for other in runs.values():
        if other.kind == "inspect" and other.record.get("detect") == run.folder.name:
            parts["inspect"] = other
    return _row(setting_of(facts), int(facts.get("seed") or 0), parts)


def setting_of(facts: Mapping[str, Any]) -> Setting:
    """The setting of a cell of the plan, or of a job's record."""
    fraction = facts.get("label_fraction")
    return Setting(
        str(facts["init"]),
        None if fraction is None else float(fraction),
        str(facts.get("detection") or ""),
        _point(facts.get("pretrain_grid")),
        _point(facts.get("detection_grid")),
    )


def _point(values: Any) -> GridPoint:
    return tuple((key, _short(value)) for key, value in values.items()) if isinstance(values, dict) else ()


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):  # a plan in JSON has lists where a config has tuples
        return "x".join(map(_short, value))
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def _row(setting: Setting, seed: int, parts: Mapping[str, Run | None]) -> Row:
    main = "detect" if "detect" in parts else "pretrain"
    present = {kind: run for kind, run in parts.items() if run is not None}
    row = Row(setting, seed, "missing", folders={kind: run.folder for kind, run in present.items()})
    row.results = {kind: run.results for kind, run in present.items() if run.results is not None}
    for run in present.values():
        row.values |= run.record.get("values") or {}
    failed = [run for kind, run in present.items() if run.status == "failed" and kind != "inspect"]
    if main in present and present[main].status != "missing":
        row.status = present[main].status
    elif any(run.status != "missing" for run in present.values()):
        row.status = "partial"
    if failed:
        row.status, row.reason = "failed", str(failed[0].record["attempts"][-1]["reason"])
    if main in present:
        row.finished = present[main].finished
        lines = [clean(line) for line in read_metrics(present[main].folder) if number(line["iteration"], -1, 1e12)]
        row.history = [
            _floats(line) | {"iteration": line["iteration"]} for line in lines if any("/" in k for k in line)
        ]
        row.metrics = _metrics(row, main)
    return row


def _metrics(row: Row, main: str) -> dict[str, float]:
    """Figures by column: final AP, the initialisation's probes, and the same probes after fine-tuning."""
    final = _floats(row.results.get(main, {}).get("metrics") or {})
    if main == "pretrain":
        return {_column(key): value for key, value in final.items()}
    figures = {_column(key) + (AFTER if f"{PROBE}/" in key else ""): value for key, value in final.items()}
    first = row.history[0] if row.history and row.history[0]["iteration"] <= 0 else {}
    probes = {_column(key): value for key, value in _floats(first).items() if f"{PROBE}/" in key}
    before = _floats(row.results.get("pretrain", {}).get("metrics") or {})
    return {**{_column(key): value for key, value in before.items()}, **probes, **figures}


def report_on(row: Row, data_set: str) -> None:
    """Of several test sets ("NAME/AP") make `data_set`, or the first, the row's AP, the others AP@NAME; in place."""
    names = [key.split("/")[0] for key in row.metrics if key.endswith("/AP") and key.count("/") == 1]
    names = [name for name in names if name not in (BOX, *FAMILIES)]
    main = data_set or (names[0] if names else "")
    metrics = {}
    for key, value in row.metrics.items():
        name, _, rest = key.partition("/")
        if name not in names:
            metrics[key] = value
        elif name == main:
            metrics[rest] = value
        elif "/" not in rest:
            metrics[f"{rest}@{name}"] = value
    row.metrics = metrics
    row.history = [{key.removeprefix(f"{main}/"): value for key, value in entry.items()} for entry in row.history]


def _column(key: str) -> str:
    """Column of results.csv for a key of metrics.json: "bbox/AP" -> "AP", "probe/object_rankme" -> "object_rankme"."""
    return key.replace(f"{PROBE}/", "").replace(f"{BOX}/", "")


def _floats(values: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in values.items() if number(value)}
