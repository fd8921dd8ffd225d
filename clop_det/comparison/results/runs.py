"""Run folders as they are found on disk: whole, partial, damaged, inside a comparison or not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clop_det.comparison.names import ASIDE_FOLDER, JOB_NAME, KINDS, PLAN_NAME
from clop_det.comparison.results.reading import read_object, sound, sound_plan
from clop_det.config.files import load_yaml
from clop_det.engine.leaving import EXIT_STOPPED
from clop_det.engine.run_folder import CONFIG_NAME, RESULTS_NAME
from clop_det.errors import UserError

_KINDS = {"pretraining": "pretrain", "detection": "detect", "conversion": "convert", "inspection": "inspect"}


@dataclass
class Run:
    """A run folder: the record of its job (empty for a run outside a comparison) and its results (None: not done).

    Attributes:
        faults: entries that were left out, because they have another form than expected.
    """

    folder: Path
    kind: str
    record: dict[str, Any]
    results: dict[str, Any] | None
    faults: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        """ "done", "failed", "partial" (begun, not ended) or "missing" (prepared, never begun)."""
        if self.results is not None:
            return "done"
        attempts = self.record.get("attempts") or []
        last = attempts[-1] if attempts else {}
        if last.get("reason") and not last.get("stopped") and last.get("exit_code") != EXIT_STOPPED:
            return "failed"
        return "partial" if attempts or (self.folder / CONFIG_NAME).exists() else "missing"

    @property
    def finished(self) -> str:
        """When its results were written, as text that sorts; "" if it has none or does not say."""
        return self.provenance("finished")

    @property
    def seconds(self) -> float | None:
        """Wall time over all attempts that ended."""
        times = [attempt.get("seconds") for attempt in self.record.get("attempts") or []]
        known = [float(seconds) for seconds in times if seconds is not None]
        return sum(known) if known else None

    @property
    def cost(self) -> Cost | None:
        """GPU-seconds of a run on GPUs, else core-seconds, over all attempts that ended; None: nobody noted it."""
        device = self.provenance("device") or self.record.get("device") or "cpu"
        unit = "gpus" if str(device).startswith("cuda") else "cores"
        shares = [
            attempt["seconds"] * attempt[unit]
            for attempt in self.record.get("attempts") or []
            if attempt.get("seconds") is not None and attempt.get(unit)
        ]
        return Cost(float(sum(shares)), "GPU-seconds" if unit == "gpus" else "core-seconds") if shares else None

    @property
    def joules(self) -> dict[str, float] | None:
        """Part of the machine -> joules over all attempts; None: not all of them noted any."""
        noted = [attempt.get("joules") for attempt in self.record.get("attempts") or []]
        if not noted or not all(noted):
            return None
        return {part: sum(item.get(part, 0.0) for item in noted) for part in dict.fromkeys(k for n in noted for k in n)}

    def provenance(self, key: str) -> str:
        """An entry of the provenance in its results; "" if there is none."""
        value = ((self.results or {}).get("provenance") or {}).get(key)
        return "" if value is None else str(value)


@dataclass(frozen=True)
class Cost:
    """What a run took: an amount and its unit, "GPU-seconds" or "core-seconds"."""

    amount: float
    unit: str

    @property
    def text(self) -> str:
        """ "412 core-seconds"."""
        return f"{self.amount:,.0f} {self.unit}"


def read_run(folder: Path) -> Run | None:
    """The run in `folder`; None if it holds none."""
    record, wrong = sound(read_object(folder / JOB_NAME))
    results, wrong_results = sound(read_object(folder / RESULTS_NAME))
    if not record and not results and not (folder / CONFIG_NAME).exists():
        return None
    kind = record.get("kind") if record.get("kind") in KINDS else _KINDS.get(str(results.get("kind")), "")
    kind = kind or _kind_of_config(folder)
    faults = [f"{key} in {name}" for name, keys in ((JOB_NAME, wrong), (RESULTS_NAME, wrong_results)) for key in keys]
    return Run(folder, kind, record, results or None, faults) if kind else None


def find_runs(folders: Iterable[Path]) -> dict[str, Run]:
    """All runs in and below `folders`, by folder name (the same job in two places: the finished one).

    What a comparison moved aside is not read with it.

    Raises:
        UserError: a folder does not exist.
    """
    found: dict[str, Run] = {}
    for top in folders:
        if not top.is_dir():
            raise UserError(f"no folder {top}: give folders that hold run folders.")
        candidates = {
            path.parent
            for name in (JOB_NAME, RESULTS_NAME, CONFIG_NAME)
            for path in top.rglob(name)
            if ASIDE_FOLDER not in path.relative_to(top).parts
        }
        for folder in sorted(candidates):
            run = read_run(folder)
            key = folder.name if run and run.record else str(folder)
            if run and (key not in found or found[key].results is None):
                found[key] = run
    return found


def find_plans(folders: Iterable[Path]) -> list[tuple[Path, dict[str, Any]]]:
    """(folder, content) of every plan.json in and below `folders`."""
    paths = sorted({path for top in folders for path in top.rglob(PLAN_NAME)})
    plans = [(path.parent, sound_plan(read_object(path))) for path in paths]
    return [(folder, plan) for folder, plan in plans if plan]


def _kind_of_config(folder: Path) -> str:
    """Kind of a run that has left no results: only detection fills DATASETS.TEST."""
    try:
        cfg = load_yaml(str(folder / CONFIG_NAME))
        return "detect" if cfg["DATASETS"]["TEST"] else "pretrain"
    except (UserError, KeyError, TypeError):
        return ""
