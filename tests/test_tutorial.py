"""docs/tutorial.ipynb: it runs, and its cells speak of what there is."""

from __future__ import annotations

import ast
import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).resolve().parents[1] / "docs" / "tutorial.ipynb"
CELLS: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


def without_magic(code: str) -> str:
    return re.sub(r"^%%capture$", "", code, flags=re.MULTILINE)


def test_its_cells_compile_and_what_they_import_is_there() -> None:
    for node in ast.walk(ast.parse("\n".join(map(without_magic, CODE)))):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("clop_det"):
            for name in node.names:
                found = importlib.import_module(str(node.module))
                assert hasattr(found, name.name) or importlib.import_module(f"{node.module}.{name.name}")
    api = importlib.import_module("clop_det.api")
    for name in re.findall(r"\bapi\.(\w+)", "\n".join(["".join(cell["source"]) for cell in CELLS])):
        assert name in api.__all__, name


def test_it_was_run_from_its_first_cell_to_its_last_and_is_small() -> None:
    counts = [cell["execution_count"] for cell in CELLS if cell["cell_type"] == "code"]
    assert counts == [*range(1, len(counts) + 1)]
    assert not [output for cell in CELLS for output in cell.get("outputs", []) if output["output_type"] == "error"]
    assert FILE.stat().st_size < 600_000
    text = re.sub(r'"image/png": "[^"]*"', "", FILE.read_text(encoding="utf-8"))
    assert not re.search(r"[\"' ]/(tmp|home|root|work|Users|opt)/", text), "a path of one machine"
    assert "ename" not in text


@pytest.mark.slow
def test_it_runs() -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook = nbformat.read(FILE, as_version=4)
    nbclient.NotebookClient(notebook, timeout=3000, kernel_name="python3").execute()
    texts = [output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any(text.startswith("random") and "mine" in text for text in texts)
