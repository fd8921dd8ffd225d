"""IMPORTS: what is imported, in which process, under which name, and what is refused."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from clop_det import keys
from clop_det.commands.compare import main as compare
from clop_det.commands.doctor import main as doctor
from clop_det.config import imports
from clop_det.config.build import register_built_in
from clop_det.config.imported import imported_files
from clop_det.config.reading import read_config
from clop_det.errors import UserError
from clop_det.losses.registry import LOSSES
from tests.processes import run_python

ROOT = Path(__file__).resolve().parents[2]
LOSS = """
from clop_det.keys import Key
from clop_det.losses import InfoNCE, register_loss

@register_loss("{name}", {{"TEMPERATURE": Key(0.3, "Temperature.")}})
def build(options, context):
    return InfoNCE(options["TEMPERATURE"])
"""


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test imports (its modules are called t_...) is forgotten after it."""
    register_built_in()
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(imports.IMPORTED)
    imports.IMPORTED.clear()
    monkeypatch.setattr(keys, "_DECLARED", dict(keys._DECLARED))
    monkeypatch.setattr(LOSSES, "_entries", dict(LOSSES._entries))
    yield
    imports.IMPORTED.clear()
    imports.IMPORTED.update(before)
    for name in [name for name in sys.modules if name.startswith("t_")]:
        del sys.modules[name]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A tool, started from another folder than the checkout's."""
    return run_python([ROOT / "tools" / words[0], *words[1:]], cwd)


def test_files_of_base_file_and_command_line_are_joined_each_from_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("t_base", "t_own", "t_given"):
        write(tmp_path / name / f"{name}.py", LOSS.format(name=name))
    write(tmp_path / "base" / "base.yaml", "IMPORTS: [../t_base/t_base.py]\nLOSS: {T_BASE: {TEMPERATURE: 0.5}}\n")
    config = write(
        tmp_path / "mine" / "run.yaml", "_BASE_: ../base/base.yaml\nIMPORTS: ../t_own/t_own.py\nLOSS.NAME: t_own\n"
    )
    monkeypatch.chdir(tmp_path / "t_given")
    before = list(sys.path)
    cfg = read_config(str(config), ["LOSS.T_GIVEN.TEMPERATURE", "0.7", "IMPORTS", "[t_given.py, ../t_own/t_own.py]"])
    assert [str(tmp_path / name / f"{name}.py") for name in ("t_base", "t_own", "t_given")] == cfg.IMPORTS
    assert (cfg.LOSS.T_BASE.TEMPERATURE, cfg.LOSS.T_OWN.TEMPERATURE, cfg.LOSS.T_GIVEN.TEMPERATURE) == (0.5, 0.3, 0.7)
    assert sys.path[: len(before)] == before  # nothing of a user's stands before what is installed
    assert not list(tmp_path.rglob("__pycache__"))
    again = read_config(str(write(tmp_path / "copy.yaml", cfg.dump())), [])
    assert yaml.safe_load(again.dump()) == yaml.safe_load(cfg.dump())


def test_keys_of_a_module_are_in_the_configs_that_import_it_alone(tmp_path: Path) -> None:
    helper = write(tmp_path / "t_helper.py", LOSS.format(name="t_helper"))
    outer = write(tmp_path / "t_outer.py", "from t_helper import build\n" + LOSS.format(name="t_outer"))
    with_helper = read_config("", ["IMPORTS", str(helper)])
    with_both = read_config("", ["IMPORTS", str(outer)])
    assert "T_HELPER" in with_helper.LOSS
    assert "T_OUTER" not in with_helper.LOSS
    assert {"T_HELPER", "T_OUTER"} <= set(with_both.LOSS)
    assert not {"T_HELPER", "T_OUTER"} & set(read_config("", []).LOSS)
    assert imported_files(with_both) == {"t_outer": outer, "t_helper": helper}
    assert imported_files(with_helper) == {"t_helper": helper}


def test_a_dotted_module_brings_the_files_of_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "t_lab" / "__init__.py", "")
    write(tmp_path / "t_lab" / "scale.py", "import json\nSCALE = 1\n")
    write(tmp_path / "t_lab" / "losses.py", "from t_lab import scale\n" + LOSS.format(name="t_lab"))
    monkeypatch.syspath_prepend(tmp_path)
    cfg = read_config("", ["IMPORTS", "[t_lab.losses]"])
    assert cfg.IMPORTS == ["t_lab.losses"]
    assert set(imported_files(cfg)) == {"t_lab", "t_lab.losses", "t_lab.scale"}


def test_a_relative_import_in_a_file_of_no_package_hides_nothing_else(tmp_path: Path) -> None:
    helper = write(tmp_path / "t_helper.py", "SIZE = 1\n")
    text = "import t_helper\ndef later():\n    from . import t_helper\n    from ..away import thing\n"
    path = write(tmp_path / "t_relative.py", text)
    cfg = read_config("", ["IMPORTS", str(path)])
    assert imported_files(cfg) == {"t_relative": path, "t_helper": helper}


REFUSED = [
    ("absent.py", "", r"IMPORTS of .*run\.yaml names absent\.py, but there is no file .*/absent\.py"),
    ("t_mine", "", r"names t_mine, but there is no module t_mine; write t_mine\.py"),
    ("t_no.such", "", "there is no module t_no; install it, or name its file"),
    ("not a module", "", "must be a dotted module or a file"),
    ("{a: 1}", "", "must be a list of modules"),
    ("my-loss.py", "", "my-loss.py, whose name is no module's; rename it"),
    ("random.py", "", r"random is also the name of the module .*random\.py; rename the file"),
    ("torch.py", "", r"torch is also the name of the module .*torch/__init__\.py"),
    ("sys.py", "", "sys is also the name of the module built-in"),
    ("t_raises.py", "x = 1\n\nraise RuntimeError('no\\nluck')\n", r"t_raises\.py, line 3: RuntimeError: no luck$"),
    ("t_syntax.py", "x = 1\nx = = 2\n", r"t_syntax\.py, line 2: SyntaxError"),
    ("t_exits.py", "import sys\nsys.exit(0)\n", r"t_exits\.py, line 2: SystemExit"),
    ("t_lacks.py", "\nimport t_nothing\n", r"t_lacks\.py, line 2: ModuleNotFoundError.*t_nothing"),
    ("t_twice.py", LOSS.format(name="clop"), r"t_twice\.py, line 5: the loss 'clop' of t_twice is registered already"),
]


@pytest.mark.parametrize(("entry", "code", "message"), REFUSED, ids=[case[0] for case in REFUSED])
def test_what_cannot_be_imported_is_one_line(tmp_path: Path, entry: str, code: str, message: str) -> None:
    if entry.endswith(".py") and entry != "absent.py":
        write(tmp_path / entry, code)
    write(tmp_path / "t_mine.py", "")
    config = write(tmp_path / "run.yaml", f"IMPORTS: [{entry}]\n")
    with pytest.raises(UserError, match=message) as caught:
        read_config(str(config), [])
    assert "\n" not in str(caught.value)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    files = [write(tmp_path / folder / "t_same.py", "") for folder in "ab"]
    with pytest.raises(UserError, match=r"b/t_same\.py, but t_same is also the name of the module .*a/t_same\.py"):
        read_config("", ["IMPORTS", str([str(file) for file in files])])


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_objects_of_a_file_reach_a_process_that_imports_nothing_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    file = write(tmp_path / "t_sent.py", "class Double:\n    def __call__(self, x):\n        return 2 * x\n")
    read_config("", ["IMPORTS", str(file)])
    double = sys.modules["t_sent"].Double()
    with multiprocessing.get_context(method).Pool(1) as pool:  # as a DataLoader's worker
        assert pool.map(double, [4]) == [8]


def test_an_installed_package_announces_itself_and_a_broken_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "lab_losses-1.0.dist-info"
    write(info / "METADATA", "Metadata-Version: 2.1\nName: lab-losses\nVersion: 1.0\n")
    write(info / "entry_points.txt", "[clop_det]\nlosses = t_announced\n")
    script = """
        from clop_det.config.reading import read_config
        print(read_config("", ["LOSS.NAME", "t_announced"]).LOSS.T_ANNOUNCED.TEMPERATURE)
    """
    write(tmp_path / "t_announced.py", LOSS.format(name="t_announced"))
    good = run_python(["-c", textwrap.dedent(script)], tmp_path, PYTHONPATH=str(tmp_path))
    assert good.stdout == "0.3\n", good.stderr
    write(tmp_path / "t_announced.py", "raise OSError('broken on purpose')\n")
    monkeypatch.syspath_prepend(tmp_path)
    imports.import_announced.cache_clear()
    with pytest.raises(UserError, match="the installed package lab-losses announces t_announced") as caught:
        read_config("", [])
    assert str(caught.value).endswith("OSError: broken on purpose. Repair or uninstall lab-losses.")


def hostile_run(folder: Path) -> tuple[Path, Path]:
    """A run folder whose config would write a file when its IMPORTS were honoured; and that file."""
    marker = folder.parent / "was_here"
    code = write(folder / "t_evil.py", f"open({str(marker)!r}, 'w').close()\n")
    write(folder / "config.yaml", f"IMPORTS: [{code}]\nSEED: 0\nOUTPUT_DIR: x\n")
    write(folder / "results.json", '{"kind": "detection", "seed": 0, "metrics": {"bbox/AP": 1.0}}')
    return folder, marker


def test_commands_that_only_read_a_run_folder_do_not_run_its_imports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, marker = hostile_run(tmp_path / "run")
    assert compare(["report", str(folder), "--output", str(tmp_path / "report")]) == 0
    derived = write(tmp_path / "derived.yaml", "_BASE_: run/config.yaml\n")
    for config in (folder / "config.yaml", derived):
        with pytest.raises(UserError, match="--allow-imports") as caught:
            doctor(["--config-file", str(config)])
        assert str(caught.value).startswith(f"IMPORTS of {folder / 'config.yaml'} names {folder / 't_evil.py'};")
    assert not marker.exists()
    capsys.readouterr()
    doctor(["--allow-imports", "--config-file", str(folder / "config.yaml")])
    said = capsys.readouterr().out
    assert said.startswith(f"imports: {folder / 't_evil.py'} (IMPORTS of {folder / 'config.yaml'})\n")
    assert marker.exists()
    with pytest.raises(UserError, match="not imported"):
        read_config(str(folder / "config.yaml"), [], allow_imports=False)


def test_a_refused_import_is_exit_code_two_and_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path / "t_bad.py", "\n\n1 / 0\n")
    config = write(tmp_path / "c.yaml", "IMPORTS: [t_bad.py]\nOUTPUT_DIR: out\n")
    before = sorted(tmp_path.rglob("*"))
    done = run("pretrain.py", "--config-file", str(config), cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "t_bad.py, line 3: ZeroDivisionError: division by zero" in line
    with pytest.raises(UserError, match=r"t_bad\.py, line 3: ZeroDivisionError"):
        compare(["--config-file", str(config)])
    assert sorted(tmp_path.rglob("*")) == before
