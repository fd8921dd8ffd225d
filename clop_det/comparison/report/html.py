"""The page: one self-contained file, no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from clop_det.comparison.report import tables
from clop_det.comparison.report.bundle import BUNDLE_NAME
from clop_det.comparison.report.examples import KEY, Gallery, tile_label
from clop_det.comparison.report.figures import LEAD
from clop_det.comparison.report.pareto import cost_table
from clop_det.comparison.report.style import Picture, colours
from clop_det.comparison.results import provenance, recipe
from clop_det.comparison.results.code import MARK
from clop_det.comparison.results.rows import Row, Setting
from clop_det.comparison.results.summary import Comparison
from clop_det.engine.clock import clock
from clop_det.figures import ACCURACY, PRECISION, RANK

_MOST_VERDICTS = 14  # sentences; differences.csv holds all
_MOST_DIFFERENCES = 12  # columns of the table of settings


def render_page(comparison: Comparison, pictures: Sequence[Picture], galleries: Sequence[Gallery]) -> str:
    """The report as HTML; everything it needs is inside."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("clop_det.comparison.report"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    header, lines = tables.main_table(comparison)
    verdicts = [
        {"row": row, "text": text}
        for row, summary in enumerate(comparison.summaries)
        if (text := tables.verdict(summary, comparison))
    ]
    family_header, families = tables.family_table(comparison)
    further = tables.further_tables(comparison)
    difference_header, differences = setting_differences(comparison)
    cost_header, costs = cost_table(comparison)
    class_header, classes = tables.class_table(comparison)
    lead = [picture for picture in pictures if picture.name == LEAD]
    page: str = environment.get_template("report.html.j2").render(
        title=comparison.name,
        description=comparison.description,
        code_notes=comparison.code.notes,
        protocol=comparison.protocol,
        facts=_facts(comparison),
        varied=recipe.varied(comparison),
        shared=recipe.shared(comparison),
        measured=recipe.measured(comparison),
        verdicts=verdicts[:_MOST_VERDICTS],
        more_verdicts=max(0, len(verdicts) - _MOST_VERDICTS),
        no_verdict=_no_verdict(comparison),
        problems=problems(comparison),
        header=header,
        lines=_lines(comparison, lines),
        against=header.index(f"against {comparison.baseline}"),
        notes=tables.notes(comparison),
        family_header=family_header,
        families=_lines(comparison, families),
        source_line=provenance.source_line(comparison),
        further=[(title, header, _lines(comparison, lines)) for title, header, lines in further],
        meanings=tables.meanings(header for _, header, _ in further),
        chosen=[choice.sentence for choice in comparison.choices],
        cost_header=cost_header,
        costs=_lines(comparison, costs),
        class_header=class_header,
        classes=classes,
        lead=lead,
        pictures=[picture for picture in pictures if picture not in lead],
        galleries=galleries,
        rows_of_tiles=_rows_of_tiles(comparison),
        key=KEY,
        run_header=_run_header(comparison),
        run_lines=[_run_line(comparison, row) for row in comparison.rows],
        difference_header=difference_header,
        differences=differences,
        provenance=provenance.common_facts(comparison),
        provenance_warnings=provenance.warnings(comparison),
        job_header=provenance.JOB_HEADER,
        job_lines=_job_lines(comparison),
        bundle=BUNDLE_NAME,
        footer="Made by clop_det from the run folders alone.",
    )
    return page


def problems(comparison: Comparison) -> list[str]:
    """One line for every row without figures, and what was left out."""
    lines = list(comparison.remarks)
    for row in comparison.rows:
        if row.status != "done":
            what = {"failed": f"failed: {row.reason}", "partial": "begun, not finished", "missing": "has not run"}[
                row.status
            ]
            labels = tables.percent(row.setting.label_fraction, "labels")
            where = ", ".join(filter(None, [row.setting.label, labels, row.setting.detection, f"seed {row.seed}"]))
            lines.append(f"{where}: {what}")
    return lines


def setting_differences(comparison: Comparison) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Config keys whose values differ between settings: names of the settings, and (key, value of each)."""
    summaries = comparison.summaries[:_MOST_DIFFERENCES]
    values = [summary.rows[0].values for summary in summaries]
    keys = sorted({key for item in values for key in item} - {"SEED"})
    lines = []
    for key in keys:
        cells = [str(item[key]) if key in item else tables.MISSING for item in values]
        if len(set(cells)) > 1:
            lines.append((key, cells))
    return tables.setting_names(comparison, summaries), lines


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    done = sum(row.status == "done" for row in comparison.rows)
    runs = provenance.used_runs(comparison)
    finished = [run.finished for run in runs]
    seconds = sum(run.seconds or 0 for run in runs)
    facts = [
        ("initialisations", str(len(comparison.inits))),
        ("seeds", str(len({row.seed for row in comparison.rows}))),
        ("runs", f"{done} of {len(comparison.rows)}" if done < len(comparison.rows) else str(done)),
        ("baseline", comparison.baseline),
    ]
    if seconds:
        facts.append(("computing time", clock(seconds)))
    if any(finished):
        facts.append(("last run ended", max(finished).replace("T", " ").replace("Z", " UTC")))
    return facts


def _no_verdict(comparison: Comparison) -> str:
    if comparison.most_seeds == 0:
        return "No run has ended yet, so there is nothing to compare."
    if comparison.most_seeds == 1:
        return (
            "Every setting has one seed. The figures below show what the runs gave; which initialisation wins, and by"
            " how much, they cannot tell: that takes several seeds."
        )
    return f"No setting shares seeds with the baseline {comparison.baseline}, so there are no paired differences."


def _lines(comparison: Comparison, lines: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    palette = colours(comparison.inits)
    figure = comparison.catalogue.find(comparison.metric)
    judged = ("ahead", "behind") if figure.better else ()
    result = []
    for row, (summary, cells) in enumerate(zip(comparison.summaries, lines, strict=True)):
        verdict = tables.standing(summary.difference, figure) if summary.difference else ""
        result.append(
            {
                "cells": cells,
                "row": row,
                "colour": palette[summary.setting.init],
                "verdict": verdict if verdict in judged else "",
            }
        )
    return result


def _row_of(comparison: Comparison) -> dict[Setting, int]:
    """Setting -> number of its line in the tables; what the page's script highlights together."""
    return {summary.setting: row for row, summary in enumerate(comparison.summaries)}


def _rows_of_tiles(comparison: Comparison) -> dict[str, dict[str, int]]:
    """Detection config -> label of a picture -> number of the line."""
    found: dict[str, dict[str, int]] = {}
    for setting, row in _row_of(comparison).items():
        found.setdefault(setting.detection, {})[tile_label(comparison, setting)] = row
    return found


def _run_header(comparison: Comparison) -> list[str]:
    names = [comparison.catalogue.find(column).label for column in _columns(comparison)]
    code = ["code"] if comparison.code.runs else []
    return ["initialisation", "labels", "detection", "seed", *names, "wall time", "cost", *code, "state", "run folder"]


def _run_line(comparison: Comparison, row: Row) -> dict[str, Any]:
    figures = []
    for column in _columns(comparison):
        value = row.metrics.get(column)
        figures.append(tables.MISSING if value is None else comparison.catalogue.find(column).text(value))
    runs = provenance.runs_of(row, comparison)
    seconds = sum(run.seconds or 0 for run in runs)
    cost = ", ".join(cost.text for cost in provenance.total_cost(runs)) or tables.MISSING
    labels = tables.percent(row.setting.label_fraction)
    head = [labels, row.setting.detection or tables.MISSING, str(row.seed)]
    code = comparison.code.of(row.folders.values())
    marks = [code or "newest"] if comparison.code.runs else []
    return {
        "row": _row_of(comparison).get(row.setting, ""),
        "label": f"{row.setting.label} {MARK}" if code else row.setting.label,
        "colour": colours(comparison.inits)[row.setting.init],
        "cells": [*head, *figures, clock(seconds) if seconds else tables.MISSING, cost, *marks],
        "status": row.status,
        "folder": row.folder.name if row.folder else "",
    }


def _job_lines(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """(Numbers of the lines in the tables that a job has a part in, cells) of each job."""
    numbers: dict[Path, dict[str, None]] = {}
    place = _row_of(comparison)
    for row in comparison.rows:
        for folder in row.folders.values():
            numbers.setdefault(folder, {})[str(place.get(row.setting, ""))] = None
    rows = [" ".join(numbers[run.folder]) for run in provenance.used_runs(comparison)]
    return list(zip(rows, provenance.job_lines(comparison), strict=True))


def _columns(comparison: Comparison) -> list[str]:
    found = {column for row in comparison.rows for column in row.metrics}
    names = comparison.catalogue.names
    wanted = dict.fromkeys([comparison.metric, *names(PRECISION)[:2], *names(ACCURACY, RANK)])
    return [column for column in wanted if column in found or column == comparison.metric]
