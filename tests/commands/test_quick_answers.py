"""What a command refuses or explains is answered before torch is imported; every command is there under one name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from clop_det.commands.main import COMMANDS, main
from clop_det.errors import UserError

SCRIPT = """
import sys
from clop_det.commands.main import run
try:
    run()
finally:
    heavy = [name for name in ("torch", "detectron2", "numpy", "LabGym.detectron2") if name in sys.modules]
    peak = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]  # KiB since exec
    print("HEAVY", heavy, "MB", int(peak[0]) >> 10)
"""


def answer(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True)


@pytest.mark.parametrize("words", [[], *([name] for name in COMMANDS)])
def test_help_imports_no_framework(words: list[str]) -> None:
    done = answer(*words, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: clop-det")
    assert "HEAVY []" in done.stdout
    assert int(done.stdout.rsplit("MB", 1)[1]) < 60


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--version"], 0, "clop_det "),
        (["trian"], 2, "Did you mean train?"),
        (["train"], 2, "no config is given"),
        (["train", "--config-file", "detection/Base-R_18_FPM.yaml"], 2, "Did you mean detection/Base-R_18_FPN.yaml?"),
        (["pretrain", "--config-file", "pretrain/resnet18_digits.yaml", "SOLVER.MAX_ITER"], 2, "odd number of words"),
        (["pretrain", "--eval-only"], 2, "unrecognized arguments: --eval-only"),
        (["compare", "report", "absent"], 2, "no folder absent"),
        (["convert", "absent.pth", "out.pth"], 2, "cannot read checkpoint absent.pth"),
        (["verify", "absent.zip"], 2, "no file absent.zip"),
        (["predict", "absent", "absent.jpg", "--output", "x"], 2, "absent does not exist"),
        (["config", "list"], 0, "compare/digits.yaml"),
        (["config", "keys", "lebels.fraction"], 2, "Did you mean LABELS.FRACTION?"),
    ],
)
def test_answers_without_a_framework(words: list[str], code: int, said: str) -> None:
    done = answer(*words)
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
    assert "HEAVY []" in done.stdout


def test_config_shows_copies_and_finds_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["config", "keys", "labels.fr*"]) == 0
    assert capsys.readouterr().out.startswith("LABELS.FRACTION (0.1), pretraining\n")
    assert main(["config", "show", "compare/digits.yaml"]) == 0
    assert "LABEL_FRACTIONS" in capsys.readouterr().out
    assert main(["config", "copy", "compare/digits.yaml", "mine.yaml"]) == 0
    with pytest.raises(UserError, match="exists already"):
        main(["config", "copy", "compare/digits.yaml", "mine.yaml"])
    capsys.readouterr()
    assert main(["compare", "--config-file", "mine.yaml", "--dry-run"]) == 0  # its configs are found from here
    assert "10 jobs" in capsys.readouterr().out
    (tmp_path / "a.yaml").write_text("")
    (tmp_path / "b.yaml").write_text("# a.yaml, a.yaml and 'xa.yaml'\n_BASE_: 'a.yaml'\n")
    assert main(["config", "copy", "b.yaml", "c.yaml"]) == 0
    whole = tmp_path.resolve() / "a.yaml"
    assert (tmp_path / "c.yaml").read_text() == f"# {whole}, {whole} and 'xa.yaml'\n_BASE_: '{whole}'\n"
