"""The keys as the generated reference describes them, for `--help` and `config keys`, which must not wait for torch.

In a checkout the page is docs/reference/config.md, in an installed wheel it lies inside the package. A test keeps it
equal to the declarations.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import clop_det
from clop_det.errors import UserError
from clop_det.keys import COMPARISON, DETECTION, PRETRAINING, nearest

_PACKAGE = Path(clop_det.__file__).resolve().parent
_WIDTH, _INDENT = 110, " " * 6
_BAR = re.compile(r"(?<!\\)\|")
STAGES = {PRETRAINING: "pretraining", DETECTION: "detection", COMPARISON: "comparison"}


def reference_folder() -> Path:
    """Folder of the generated reference pages."""
    inside = _PACKAGE / "reference"
    return inside if inside.is_dir() else _PACKAGE.parent / "docs" / "reference"


def table_rows(page: str, columns: int) -> Iterator[list[str]]:
    """The rows of all tables with so many columns in a reference page, as plain text without the heads."""
    for line in (reference_folder() / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in _BAR.split(line)[1:-1]]
        if len(cells) == columns and cells[0].startswith("`"):
            yield [_plain(cell) for cell in cells]


def keys_help(stage: str) -> str:
    """The own keys of a stage, wrapped: name, default, rule and meaning."""
    lines = [f"config keys of {STAGES[stage]} beside Detectron2's (docs/reference/config.md):"]
    for name, default, stages, meaning in table_rows("config.md", 4):
        if STAGES[stage] in stages.split(", "):
            lines += [f"  {name} ({default})", *_wrapped(meaning)]
    return "\n".join(lines)


def keys_like(pattern: str) -> str:
    """The own keys whose names match `pattern` (shell style, or a part of the name; case counts not), as `keys_help`.

    Raises:
        UserError: none does; names the nearest.
    """
    rows, wanted = list(table_rows("config.md", 4)), pattern.upper()
    lines = []
    for name, default, stages, meaning in rows:
        if wanted in name or fnmatchcase(name, wanted):
            lines += [f"{name} ({default}), {stages}", *_wrapped(meaning)]
    if not lines:
        near = nearest(wanted, [name for name, *_ in rows])
        raise UserError(f"no key of clop_det matches {pattern}; Detectron2's own keys are in its documentation.{near}")
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)


def _plain(cell: str) -> str:
    """The text of a Markdown cell."""
    cell = cell.replace("\\|", "|").replace("&lt;", "<").replace("\\*", "*")
    return cell[1:-1] if cell.startswith("`") and cell.endswith("`") else cell
