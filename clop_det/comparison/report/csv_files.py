"""The tables for programs: results.csv (one line a run) and differences.csv (one line a setting)."""

from __future__ import annotations

import csv
import io
import math

from clop_det.comparison.report.escaping import csv_cell
from clop_det.comparison.report.tables import standing
from clop_det.comparison.results.provenance import run_facts, runs_of
from clop_det.comparison.results.summary import Comparison
from clop_det.figures import PRECISION


def results_csv(comparison: Comparison) -> str:
    """One line a run; empty where a figure is missing. AP in 0..100, probes as fractions."""
    found = dict.fromkeys(column for row in comparison.rows for column in row.metrics)
    headline = [*comparison.catalogue.names(PRECISION), *comparison.catalogue.probe_columns()]
    columns = [*headline, *sorted(column for column in found if column not in headline)]
    grids = dict.fromkeys(
        key for row in comparison.rows for key, _ in (*row.setting.pretrain_grid, *row.setting.detection_grid)
    )
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    sources = [*run_facts([]), "code"]
    header = ["init", "label_fraction", "seed", *columns, "detection", *grids, "status", "run", *sources]
    writer.writerow(map(csv_cell, header))
    for row in comparison.rows:
        setting = row.setting
        point = dict((*setting.pretrain_grid, *setting.detection_grid))
        figures = [_plain(row.metrics.get(column)) for column in columns]
        fraction = "" if setting.label_fraction is None else f"{setting.label_fraction:g}"
        run = row.folder.name if row.folder else ""
        grid = [point.get(key, "") for key in grids]
        facts = {**run_facts(runs_of(row, comparison)), "code": comparison.code.of(row.folders.values())}
        cells = [setting.init, fraction, row.seed, *figures, setting.detection, *grid, row.status, run]
        writer.writerow(map(csv_cell, [*cells, *(facts[name] for name in sources)]))
    return buffer.getvalue()


def differences_csv(comparison: Comparison) -> str:
    """One line a setting: the paired difference of the comparison's metric against the baseline."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    figure = comparison.catalogue.find(comparison.metric)
    names = ["init", "label_fraction", "detection", "setting", "metric", "baseline", "pairs", "mean", "low", "high"]
    writer.writerow([*names, "p_t", "p_permutation", "p_holm", "verdict"])
    for summary in comparison.summaries:
        difference = summary.difference
        if difference is None:
            continue
        setting, interval = summary.setting, difference.interval
        figures = (interval.mean, interval.low, interval.high)
        p_values = (difference.p_t, difference.p_permutation, difference.p_corrected)
        head = [setting.init, "" if setting.label_fraction is None else setting.label_fraction, setting.detection]
        line = [*head, setting.label, comparison.metric, comparison.baseline, interval.n]
        line += [_plain(value) for value in (*figures, *p_values)]
        writer.writerow(map(csv_cell, [*line, standing(difference, figure)]))
    return buffer.getvalue()


def _plain(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.6g}"
