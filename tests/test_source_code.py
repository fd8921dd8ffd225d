"""Which files count as the code of a computation."""

from __future__ import annotations

from pathlib import Path

from clop_det.source_code import NO_FIGURES, code_files


def test_a_stage_counts_with_what_it_imports_and_with_the_losses_in_use() -> None:
    files = code_files(["clop_det.pretraining.run", "clop_det.losses.clop"])
    names = set(files)
    assert {"clop_det/pretraining/trainer.py", "clop_det/losses/clop.py", "clop_det/losses/batch.py"} <= names
    # `from clop_det.losses import build_loss` leads to the module that defines it, and to no other loss.
    assert "clop_det/losses/registry.py" in names
    assert not {"clop_det/losses/vicreg.py", "clop_det/losses/__init__.py"} & names
    assert not [name for name in names if name.split("/")[1] in ("comparison", "commands", "doctor", "detection")]
    assert not {f"{name.replace('.', '/')}.py" for name in NO_FIGURES} & names
    assert files["clop_det/losses/clop.py"] != files["clop_det/losses/batch.py"]


def test_every_module_that_does_not_count_exists() -> None:
    root = Path(__file__).resolve().parents[1]
    assert [name for name in NO_FIGURES if not (root / f"{name.replace('.', '/')}.py").is_file()] == []


def user_files(folder: Path) -> dict[str, Path]:
    folder.mkdir()
    (folder / "my_losses.py").write_text("import helper\nfrom clop_det.losses.base import Loss\n")
    (folder / "helper.py").write_text("import numpy\n")
    (folder / "unrelated.py").write_text("import helper\n")
    return {"my_losses": folder / "my_losses.py"}


def test_imported_files_count_by_name_and_content_wherever_they_lie(tmp_path: Path) -> None:
    here, there = user_files(tmp_path / "here"), user_files(tmp_path / "there")
    files = code_files([], here)
    assert {name for name in files if not name.startswith("clop_det/")} == {"my_losses.py", "helper.py"}
    assert "clop_det/losses/base.py" in files
    assert code_files([], there) == files
    (tmp_path / "there" / "new.py").write_text("LIMIT = 1\n")
    assert code_files([], there) == files
    (tmp_path / "there" / "helper.py").write_text("import numpy\nLIMIT = 1\n")
    changed = code_files([], there)
    assert {name for name in files if changed[name] != files[name]} == {"helper.py"}


def test_files_that_cannot_be_parsed_count_alone_and_any_declared_encoding_is_read(tmp_path: Path) -> None:
    (tmp_path / "latin.py").write_bytes("# -*- coding: latin-1 -*-\nimport helper\nNAME = '\u00e9'\n".encode("latin-1"))
    (tmp_path / "helper.py").write_text("SIZE = 1\n")
    (tmp_path / "broken.py").write_text("import helper\nx = = 2\n")
    (tmp_path / "nul.py").write_bytes(b"import helper\n\0")
    assert set(code_files([], {"latin": tmp_path / "latin.py"})) == {"latin.py", "helper.py"}
    for name in ("broken", "nul"):
        assert set(code_files([], {name: tmp_path / f"{name}.py"})) == {f"{name}.py"}


def test_a_dotted_module_brings_the_modules_of_its_package_that_it_imports(tmp_path: Path) -> None:
    package = tmp_path / "lab"
    (package / "heads").mkdir(parents=True)
    (package / "__init__.py").write_text("from lab.other import thing\n")
    (package / "other.py").write_text("thing = 1\n")
    (package / "heads" / "__init__.py").write_text("from lab.heads.box import Box\n")
    (package / "heads" / "box.py").write_text("from ..common import SIZE\nclass Box: ...\n")
    (package / "common.py").write_text("SIZE = 3\n")
    (package / "user.py").write_text("from lab.heads import Box\nfrom . import other\n")
    files = code_files([], {"lab.user": package / "user.py"})
    assert set(files) == {"lab/user.py", "lab/heads/box.py", "lab/common.py", "lab/other.py"}
