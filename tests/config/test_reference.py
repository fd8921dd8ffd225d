from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_committed_reference_is_what_the_declarations_give() -> None:
    command = [sys.executable, "-W", "ignore", "-m", "clop_det.config.reference"]
    made = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    committed = (ROOT / "docs" / "reference" / "config.md").read_text()
    assert made == committed, "run: python -m clop_det.config.reference > docs/reference/config.md"
    for key in ("`LABELS.FRACTION`", "`LOSS.CLOP.WEIGHT`", "`COMPARE.SEEDS`", "`SOLVER.MAX_ITER`", "`IMPORTS`"):
        assert key in made
