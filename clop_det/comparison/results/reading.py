"""What a run folder says: somebody's files, of which entries of another form than expected are left out."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from clop_det.comparison.names import BOXED_IMAGE, LABEL
from clop_det.files import check_ordinary

_MOST_BYTES = 64 << 20  # of a JSON file
_LONGEST = 400  # characters of a text
_LARGEST = 1e100
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if it is missing, damaged or something else: a report shows what there is."""
    try:
        check_ordinary(path)
        if os.path.getsize(path) > _MOST_BYTES:
            return {}
        content = json.loads(path.read_text(encoding="utf-8"))
        return clean(content) if isinstance(content, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}


def clean(value: Any) -> Any:
    """The value with texts on one line, without control characters and not longer than 400 characters."""
    if isinstance(value, str):
        return _CONTROL.sub(" ", value)[:_LONGEST]
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    return [clean(item) for item in value] if isinstance(value, list) else value


def sound(content: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The entries of a job's record, of results or of a plan that have the form that the report expects of them.

    Returns:
        entries (those that the report does not read are kept as they are), and the names of those left out.
    """
    wrong = [key for key, value in content.items() if key in FORMS and value is not None and not FORMS[key](value)]
    return {key: value for key, value in content.items() if key not in wrong}, wrong


def number(value: Any, low: float = -_LARGEST, high: float = _LARGEST) -> bool:
    """Whether the value is a number, and a finite one between `low` and `high`."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _numbers(value: Any, low: float = -_LARGEST) -> bool:
    return isinstance(value, list) and 0 < len(value) < 1 << 20 and all(number(item, low) for item in value)


def _square(value: Any) -> bool:
    return isinstance(value, list) and all(_numbers(line, -1.01) and len(line) == len(value) for line in value)


def _object(of: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(of, value.values()))


def _list(of: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(of, value))


def _scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | bool) or number(value)


def _grid_value(value: Any) -> bool:
    return _list(_scalar)(value) or _scalar(value)


def _figure(value: Any) -> bool:
    return number(value) or (isinstance(value, float) and not math.isfinite(value))


def _attempt(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(value.get(key) is None or number(value[key], 0, 1e12) for key in ("seconds", "cores", "gpus"))
        and (value.get("reason") is None or _text(value["reason"]))
        and (value.get("joules") is None or _counts(value["joules"]))
    )


def _counts(value: Any) -> bool:
    return isinstance(value, dict) and all(number(count, 0) for count in value.values())


def _pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_text, value))


def _two_numbers(value: Any) -> bool:
    return _numbers(value) and len(value) == 2


def _cell(value: Any) -> bool:
    return isinstance(value, dict) and {"init", "seed"} <= set(value) and not sound(value)[1]


FORMS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(
        ("kind", "name", "digest", "init", "loss", "detection", "pretrain", "convert", "detect", "inspect"), _text
    ),
    **dict.fromkeys(("device", "baseline", "metric", "description", "data_set", "heads", "test"), _text),
    "one_file": _list(_text),
    "boundary": lambda value: (
        isinstance(value, dict) and _counts(value.get("images")) and _list(_text)(value.get("given"))
    ),
    "ranking": lambda value: (
        isinstance(value, dict)
        and (not value or (_text(value.get("rule")) and _object(_two_numbers)(value.get("scores"))))
    ),
    "cost": lambda value: (
        isinstance(value, dict)
        and (not value or (set(value) == {LABEL, BOXED_IMAGE} and all(number(cost, 1e-9) for cost in value.values())))
    ),
    "sequential": _list(lambda value: isinstance(value, int) and number(value, -(2**63), 2**63)),
    "seed": lambda value: isinstance(value, int) and number(value, -(2**63), 2**63),
    "label_fraction": lambda value: number(value, 1e-12, 1),
    "pretrain_grid": _object(_grid_value),
    "detection_grid": _object(_grid_value),
    "values": lambda value: isinstance(value, dict),
    "attempts": _list(_attempt),
    "metrics": _object(_figure),
    "provenance": _object(_scalar),
    **dict.fromkeys(
        ("singular_values", "singular_values_before", "init_singular_values"), lambda value: _numbers(value, 0)
    ),
    "class_cosines_before": _square,
    "classes": _list(_text),
    "example_score": lambda value: number(value, 0, 1),
    "select": _object(_pair),
}


def sound_plan(content: Mapping[str, Any]) -> dict[str, Any]:
    """A plan with the cells and entries that have the expected form; without cells it is none."""
    kept, _ = sound(content)
    cells = content.get("cells")
    return {**kept, "cells": [cell for cell in cells if _cell(cell)]} if isinstance(cells, list) else {}
