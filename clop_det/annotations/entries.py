"""The entries of DATASETS.REGISTER: which keys they have, and what each may be."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from clop_det.annotations.sources import LAYOUTS, MODES, read_lines
from clop_det.data.paths import local_path
from clop_det.errors import UserError

_KEYS = {"NAME", "LAYOUT", "ROOT", "SPLIT", "YEAR", "CLASSES", "JSON", "LIST", "IMAGE_DIR", "ANNOTATION_DIR", "BOXES"}

_PATH = (str, os.PathLike)
# Key -> what its value may be, and that in words.
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "NAME": ((str,), "text"),
    "LAYOUT": ((str,), "text"),
    "ROOT": (_PATH, "a folder or an address such as digits://cluttered"),
    "SPLIT": ((str, int), "text"),
    "CLASSES": ((str, list, tuple), "a list of names, or a file with one a line"),
    "JSON": (_PATH, "a path relative to ROOT"),
    "IMAGE_DIR": (_PATH, "a path relative to ROOT"),
    "ANNOTATION_DIR": (_PATH, "a path relative to ROOT"),
    "LIST": (_PATH, "a path relative to ROOT"),
    "BOXES": ((str,), "xywh or xyxy"),
}
_OF_ONE_LAYOUT = {"YEAR": "voc", "ANNOTATION_DIR": "voc", "JSON": "coco", "BOXES": "coco"}


def checked_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with all its keys; class names as a tuple, in the order given.

    Raises:
        UserError: an unknown or missing key, a value of a wrong type, an unknown layout, a class named twice.
    """
    if not isinstance(entry, Mapping):
        raise UserError(f"DATASETS.REGISTER must be a list of mappings (NAME, LAYOUT, ROOT, ...), but holds {entry!r}.")
    unknown, missing = set(entry) - _KEYS, {"NAME", "LAYOUT", "ROOT"} - set(entry)
    if unknown or missing:
        problem = f"unknown key {min(map(str, unknown))}" if unknown else f"no {min(missing)}"
        raise UserError(f"DATASETS.REGISTER, entry {dict(entry)}: {problem}; keys are {', '.join(sorted(_KEYS))}.")
    for key, (types, expected) in _TYPES.items():
        value = entry.get(key, "")
        if not isinstance(value, types) or isinstance(value, bool) or (key in ("NAME", "ROOT") and not value):
            raise UserError(f"DATASETS.REGISTER, entry {dict(entry)}: {key} is {value!r}; it must be {expected}.")
    if entry["LAYOUT"] not in LAYOUTS:
        raise UserError(
            f"DATASETS.REGISTER, {entry['NAME']}: LAYOUT is {entry['LAYOUT']!r}; it must be {' or '.join(LAYOUTS)}."
        )
    for key, layout in _OF_ONE_LAYOUT.items():
        if entry.get(key) and entry["LAYOUT"] != layout:
            raise UserError(
                f"DATASETS.REGISTER, {entry['NAME']}: {key} is a key of LAYOUT {layout} alone; leave it out."
            )
    absent = dict.fromkeys(("SPLIT", "JSON", "IMAGE_DIR", "ANNOTATION_DIR", "LIST"), "")
    spec = {**absent, "YEAR": 2007, "CLASSES": (), "BOXES": "xywh", **entry}
    if spec["BOXES"] not in MODES:
        raise UserError(
            f"DATASETS.REGISTER, {spec['NAME']}: BOXES is {spec['BOXES']!r}; it must be {' or '.join(MODES)}."
        )
    if spec["YEAR"] not in (2007, 2012):
        raise UserError(f"DATASETS.REGISTER, {spec['NAME']}: YEAR is {spec['YEAR']!r}; it must be 2007 or 2012.")
    return {**spec, "SPLIT": str(spec["SPLIT"]), "CLASSES": _classes(spec)}


def _classes(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Class names in the order given, from the entry or the file that it names; empty: none are given."""
    classes = spec["CLASSES"]
    if isinstance(classes, str):
        classes = read_lines(local_path(spec["ROOT"]) / classes, f"DATASETS.REGISTER, {spec['NAME']}: CLASSES")
    for name in classes:
        if not isinstance(name, str | int) or isinstance(name, bool):
            raise UserError(f"DATASETS.REGISTER, {spec['NAME']}: CLASSES names {name!r}; a class name is text.")
    classes = tuple(str(name) for name in classes)
    if len(set(classes)) < len(classes):
        raise UserError(f"DATASETS.REGISTER, {spec['NAME']}: CLASSES names one class twice: {', '.join(classes)}.")
    return classes
