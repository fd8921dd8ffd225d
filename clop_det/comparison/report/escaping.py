"""Texts of run folders in the report's formats, one function a format; the page is escaped by jinja2 as a whole."""

from __future__ import annotations

import hashlib
import re
from typing import Any

_LATEX = {character: f"\\{character}" for character in "%_&#${}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "±": r"$\pm$",
    "†": r"$\dagger$",
    "·": r"$\cdot$",
    "–": "--",  # noqa: RUF001 (a dash)
    "\n": " ",
    "\r": " ",
}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_LONGEST = 120  # characters of a file's name


def latex(text: str) -> str:
    """Text in LaTeX, where no character of it is a command."""
    return "".join(_LATEX.get(character, character) for character in text)


def markdown(text: str) -> str:
    """Text in Markdown, in a table too: on one line, no HTML, no link, no picture, no end of a cell."""
    line = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return line.replace("](", "]&#40;").replace("|", "\\|").replace("`", "'")


def csv_cell(value: Any) -> Any:
    """A cell of a CSV file; a text that a spreadsheet would take for a formula begins with an apostrophe."""
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
        return value
    except ValueError:
        return f"'{value}"


def file_name(text: str) -> str:
    """The text as a file's name in one folder; if it had to be changed, with a digest that keeps names apart."""
    name = re.sub(r"[^\w.+@-]", "_", text, flags=re.ASCII).lstrip(".")[:_LONGEST]
    return name if name == text else f"{name}-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"
