"""plan.json: what the report needs to know of a comparison beside its run folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from clop_det.comparison.names import PLAN_NAME, REPORT_FOLDER
from clop_det.comparison.planning.other_code import OtherCode
from clop_det.comparison.planning.plan import Plan
from clop_det.errors import UserError
from clop_det.files import read_json, write_json


def check_output(plan: Plan) -> None:
    """UserError if OUTPUT_DIR is another comparison's, or holds the report of something else."""
    path = plan.matrix.output / PLAN_NAME
    report = plan.matrix.output / REPORT_FOLDER
    if not path.exists() and report.is_dir() and any(report.iterdir()):
        raise UserError(f"{report} is the report of something else. Move it away, or choose another OUTPUT_DIR.")
    if path.exists():
        other = read_json(path).get("name")
        if other != plan.matrix.name:
            raise UserError(f'{plan.matrix.output} holds the comparison "{other}". Choose another OUTPUT_DIR.')


def write_plan(plan: Plan, kept: Mapping[str, OtherCode], boundary: Mapping[str, Any]) -> None:
    """Write plan.json: what the report needs to know beside the run folders.

    Args:
        kept: jobs whose figures stand although they ran under other code.
        boundary: which pretraining images were compared with the test images.
    """
    matrix = plan.matrix
    content = {
        "name": matrix.name,
        "description": matrix.description,
        "inits": [init.name for init in matrix.inits],
        "baseline": matrix.baseline,
        "metric": matrix.metric,
        "example_score": matrix.example_score,
        "heads": matrix.heads,
        "test": matrix.test,
        "cost": dict(matrix.cost),
        "ranking": dict(matrix.ranking),
        "sequential": list(matrix.seeds) if matrix.sequential else None,
        "one_file": [init.name for init in matrix.inits if init.one_file],
        "select": {item.name: [item.select_by, item.report_on] for item in matrix.detections if item.select_by},
        "boundary": dict(boundary),
        "cells": [asdict(cell) for cell in plan.cells],
        "kept": {name: other.as_dict() for name, other in kept.items()},
    }
    write_json(matrix.output / PLAN_NAME, content)
