"""The finished fine-tunings of stored comparisons: what each began with, on which data, and its AP."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from detectron2.config import CfgNode

from clop_det.comparison.results.rows import Row
from clop_det.comparison.results.runs import Run
from clop_det.comparison.results.summary import read_comparison
from clop_det.config.reading import read_config
from clop_det.engine.run_folder import CONFIG_NAME
from clop_det.errors import UserError

_WEIGHTS = "backbone.pth"  # what a comparison's conversion makes


@dataclass(frozen=True)
class FineTuning:
    """A finished fine-tuning.

    Attributes:
        comparison: its title.
        folder: of the run.
        cfg: of the run.
        weights: converted file that it began with. Of a random one that of another run of the same network, which says
            how the network is built and fed.
        random: whether it began with random numbers.
        ap: in percent.
        seconds: core-seconds, or GPU-seconds on a GPU; NaN: not noted.
    """

    comparison: str
    folder: Path
    cfg: CfgNode
    weights: Path
    random: bool
    init: str
    label_fraction: str
    setting: str
    seed: int
    ap: float
    seconds: float


def finished_runs(folders: Sequence[Path], allow_imports: bool) -> tuple[list[FineTuning], dict[str, str]]:
    """All finished fine-tunings below `folders`, each folder a comparison, and those left out with the reason.

    Raises:
        UserError: a folder does not exist or holds no run.
    """
    found: list[FineTuning] = []
    left_out: dict[str, str] = {}
    for folder in folders:
        comparison = read_comparison([folder])
        rows = [row for row in comparison.rows if row.status == "done" and "detect" in row.folders]
        read = {}
        for row in rows:
            try:
                read[id(row)] = read_config(str(row.folders["detect"] / CONFIG_NAME), [], allow_imports=allow_imports)
            except UserError as error:
                left_out[row.folders["detect"].name] = str(error)
        rows = [row for row in rows if id(row) in read]
        by_folder = {run.folder: run for run in comparison.runs.values()}
        for row in rows:
            cfg, run = read[id(row)], by_folder[row.folders["detect"]]
            try:
                weights = _weights(row, cfg, ((other, read[id(other)]) for other in rows))
                found.append(_fine_tuning(comparison.name, row, run, cfg, weights))
            except UserError as error:
                left_out[run.folder.name] = str(error)
    return found, left_out


def _fine_tuning(comparison: str, row: Row, run: Run, cfg: CfgNode, weights: Path) -> FineTuning:
    if "AP" not in row.metrics:
        raise UserError("its results have no AP.")
    setting, cost = row.setting, run.cost
    fraction = "" if setting.label_fraction is None else f"{setting.label_fraction:g}"
    return FineTuning(
        comparison=comparison,
        folder=run.folder,
        cfg=cfg,
        weights=weights,
        random=not _begins_with(row),
        init=setting.init,
        label_fraction=fraction,
        setting=" ".join(filter(None, [setting.label, fraction])),
        seed=row.seed,
        ap=row.metrics["AP"],
        seconds=cost.amount if cost else math.nan,
    )


def _weights(row: Row, cfg: CfgNode, others: Iterable[tuple[Row, CfgNode]]) -> Path:
    own = _begins_with(row)
    if own is None:
        builder = cfg.MODEL.BACKBONE.NAME
        alike = (_begins_with(other) for other, its in others if builder == its.MODEL.BACKBONE.NAME)
        own = next((path for path in alike if path is not None and path.is_file()), None)
        if own is None:
            raise UserError("it began with random numbers, and no other run here tells how its network is fed.")
    if not own.is_file():
        raise UserError(f"{own}, which it began with, does not exist any more.")
    return own


def _begins_with(row: Row) -> Path | None:
    return row.folders["convert"] / _WEIGHTS if "convert" in row.folders else None
