"""The rows of a comparison, read back from run folders alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from clop_det.comparison.jobs import JOB_NAME
from clop_det.comparison.plan import PLAN_NAME
from clop_det.engine.metrics import read_metrics
from clop_det.engine.run_folder import CONFIG_NAME, RESULTS_NAME
from clop_det.errors import UserError

GridPoint = tuple[tuple[str, str], ...]
PROBES = ("knn_top1", "linear_top1", "rankme")
BOX_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
STATUSES = ("done", "partial", "failed", "missing")


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
        values = [f"{key.split('.')[-1].lower()} {value}" for key, value in (*self.pretrain_grid, *self.detection_grid)]
        return " · ".join([self.init, *values])


@dataclass
class Row:
    """One run of a setting: its seed, state, figures and where they are.

    Attributes:
        metrics: column of results.csv -> figure; what is not known is absent.
        history: entries of the run's metrics.json that hold an evaluation, by iteration.
        folders: kind of job -> run folder.
        results: kind of job -> content of its results.json.
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


@dataclass
class Run:
    """A run folder: the record of its job (empty for a run outside a comparison) and its results (None: not done)."""

    folder: Path
    kind: str
    record: dict[str, Any]
    results: dict[str, Any] | None

    @property
    def status(self) -> str:
        """ "done", "failed", "partial" (begun, not ended) or "missing" (prepared, never begun)."""
        if self.results is not None:
            return "done"
        attempts = self.record.get("attempts", [])
        if attempts and attempts[-1].get("exit_code", 75) not in (0, 75):
            return "failed"
        return "partial" if attempts or (self.folder / CONFIG_NAME).exists() else "missing"

    @property
    def seconds(self) -> float | None:
        """Wall time over all attempts that ended."""
        times = [attempt.get("seconds") for attempt in self.record.get("attempts", [])]
        known = [float(seconds) for seconds in times if seconds is not None]
        return sum(known) if known else None


_KINDS = {"pretraining": "pretrain", "detection": "detect", "conversion": "convert", "inspection": "inspect"}


def read_run(folder: Path) -> Run | None:
    """The run in `folder`; None if it holds none."""
    record = read_object(folder / JOB_NAME)
    results = read_object(folder / RESULTS_NAME)
    if not record and not results and not (folder / CONFIG_NAME).exists():
        return None
    kind = record.get("kind") or _KINDS.get(str(results.get("kind")), "") or _kind_of_config(folder)
    return Run(folder, kind, record, results or None) if kind else None


def find_runs(folders: Iterable[Path]) -> dict[str, Run]:
    """All runs in and below `folders`, by folder name (the same job in two places: the finished one).

    Raises:
        UserError: a folder does not exist.
    """
    found: dict[str, Run] = {}
    for top in folders:
        if not top.is_dir():
            raise UserError(f"no folder {top}: give folders that hold run folders.")
        candidates = {path.parent for name in (JOB_NAME, RESULTS_NAME, CONFIG_NAME) for path in top.rglob(name)}
        for folder in sorted(candidates):
            run = read_run(folder)
            key = folder.name if run and run.record else str(folder)
            if run and (key not in found or found[key].results is None):
                found[key] = run
    return found


def find_plans(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """Content of every plan.json in and below `folders`."""
    paths = sorted({path for top in folders for path in top.rglob(PLAN_NAME)})
    return [plan for plan in map(read_object, paths) if plan.get("cells") is not None]


def collect_rows(runs: Mapping[str, Run], plans: Iterable[Mapping[str, Any]]) -> list[Row]:
    """One row for each cell of the plans, and for each further detection run (or pretraining that feeds none)."""
    rows: list[Row] = []
    used: set[str] = set()
    for plan in plans:
        for cell in plan["cells"]:
            names = {kind: cell[kind] for kind in ("pretrain", "convert", "detect", "inspect") if cell.get(kind)}
            setting = _setting(cell)
            if set(names.values()) & used and any(row.setting == setting and row.seed == cell["seed"] for row in rows):
                continue
            used |= set(names.values())
            rows.append(_row(setting, cell["seed"], {kind: runs.get(name) for kind, name in names.items()}))
    feeding = {run.record.get("pretrain") for run in runs.values()}
    for kind in ("detect", "pretrain"):
        for name, run in runs.items():
            if run.kind == kind and name not in used and name not in feeding:
                rows.append(_lone_row(run, runs))
    return rows


def _lone_row(run: Run, runs: Mapping[str, Run]) -> Row:
    facts = {**(run.results or {}), **run.record}
    facts.setdefault("init", run.folder.name)
    if not run.record and run.kind == "detect":
        facts["detection"] = "detection"
    parts: dict[str, Run | None] = {run.kind: run}
    for kind in ("pretrain", "convert"):
        if run.record.get(kind):
            parts[kind] = runs.get(run.record[kind])
    for other in runs.values():
        if other.kind == "inspect" and other.record.get("detect") == run.folder.name:
            parts["inspect"] = other
    return _row(_setting(facts), int(facts.get("seed") or 0), parts)


def _setting(facts: Mapping[str, Any]) -> Setting:
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
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def _row(setting: Setting, seed: int, parts: Mapping[str, Run | None]) -> Row:
    main = "detect" if "detect" in parts else "pretrain"
    present = {kind: run for kind, run in parts.items() if run is not None}
    row = Row(setting, seed, "missing", folders={kind: run.folder for kind, run in present.items()})
    row.results = {kind: run.results for kind, run in present.items() if run.results is not None}
    for run in present.values():
        row.values |= run.record.get("values", {})
    failed = [run for kind, run in present.items() if run.status == "failed" and kind != "inspect"]
    if main in present and present[main].status != "missing":
        row.status = present[main].status
    elif any(run.status != "missing" for run in present.values()):
        row.status = "partial"
    if failed:
        row.status, row.reason = "failed", str(failed[0].record["attempts"][-1].get("reason", ""))
    if main in present:
        row.history = [entry for entry in read_metrics(present[main].folder) if any("/" in key for key in entry)]
        row.metrics = _metrics(row, main)
    return row


def _metrics(row: Row, main: str) -> dict[str, float]:
    """Figures by column: final AP, the initialisation's probes, and the same probes after fine-tuning."""
    final = _floats(row.results.get(main, {}).get("metrics", {}))
    if main == "pretrain":
        return {_column(key): value for key, value in final.items()}
    figures = {_column(key) + ("_finetuned" if "probe/" in key else ""): value for key, value in final.items()}
    first = row.history[0] if row.history and row.history[0]["iteration"] <= 0 else {}
    probes = {_column(key): value for key, value in _floats(first).items() if "probe/" in key}
    before = _floats(row.results.get("pretrain", {}).get("metrics", {}))
    return {**{_column(key): value for key, value in before.items()}, **probes, **figures}


def _column(key: str) -> str:
    """Column of results.csv for a key of metrics.json: "bbox/AP" -> "AP", "object_probe/rankme" -> "object_rankme"."""
    return key.replace("object_probe/", "object_").replace("probe/", "").replace("bbox/", "")


def _floats(values: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: float(value)
        for key, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if it is missing, damaged or something else: a report shows what there is."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _kind_of_config(folder: Path) -> str:
    """Kind of a run that has left no results: only detection fills DATASETS.TEST."""
    try:
        cfg = yaml.safe_load((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        return "detect" if cfg["DATASETS"]["TEST"] else "pretrain"
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return ""
