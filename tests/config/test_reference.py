from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def check(module: str, page: str) -> str:
    command = [sys.executable, "-W", "ignore", "-m", module]
    made = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    committed = (ROOT / "docs" / "reference" / page).read_text()
    assert made == committed, f"run: python -m {module} > docs/reference/{page}"
    return made


def test_the_annotation_checks_are_those_of_the_code() -> None:
    made = check("clop_det.annotations.checks.reference", "annotation_checks.md")
    assert "| `ONE_PIXEL_BOX` | the first and last pixel of a Pascal VOC box are the same column or row" in made


def test_what_a_conversion_can_be_told_is_what_the_registries_hold() -> None:
    made = check("clop_det.conversion.reference", "conversion.md")
    for name in ("`torchvision`", "`resnet50`", "`--stride-in-1x1`"):
        assert name in made


def test_the_committed_reference_is_what_the_declarations_give() -> None:
    made = check("clop_det.config.reference", "config.md")
    for key in ("`LABELS.FRACTION`", "`LOSS.CLOP.WEIGHT`", "`COMPARE.SEEDS`", "`SOLVER.MAX_ITER`", "`IMPORTS`"):
        assert key in made
