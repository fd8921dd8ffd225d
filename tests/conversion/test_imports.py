"""`clop-det convert --imports`: a network from outside the package, known in that process alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch

_ROOT = Path(__file__).resolve().parents[2]
_MODULE = _ROOT / "examples" / "my_backbone" / "my_backbone.py"


def _tiny16(path: Path) -> Path:
    """The tensors of the example's smallest network, written out here by their names and shapes."""
    state, before = {}, 3
    for name, width in (("stem", 16), ("stage1", 16), ("stage2", 32), ("stage3", 64), ("stage4", 128)):
        state[f"{name}.0.weight"] = torch.randn(width, before, 3, 3)
        state |= {f"{name}.1.{part}": torch.ones(width) for part in ("weight", "bias", "running_mean", "running_var")}
        before = width
    torch.save(state, path)
    return path


def _convert(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(_ROOT / "tools" / "convert_checkpoint.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=_ROOT, timeout=300, check=False)


def test_a_backbone_of_a_module_is_converted(tmp_path: Path) -> None:
    source, output = str(_tiny16(tmp_path / "in.pth")), tmp_path / "out.pth"
    without = _convert(source, str(output), "--no-verify")
    assert without.returncode == 2
    assert not output.exists()
    done = _convert(source, str(output), "--no-verify", "--json", "--imports", str(_MODULE))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)  # what was imported is said on the standard error
    assert (report["arch"], report["tensors_mapped"]) == ("tiny16", 25)
    assert str(_MODULE) in done.stderr
    missing = _convert(source, str(output), "--imports", str(tmp_path / "nothing.py"))
    assert (missing.returncode, len(missing.stderr.splitlines())) == (2, 1)
