from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from clop_det.errors import UserError
from clop_det.files import atomic_write, read_json, read_ordinary, sha256_of, write_json, write_text


def test_the_old_file_survives_a_failure_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    write_json(path, {"AP": 1.0})
    with pytest.raises(RuntimeError, match="in the middle"), atomic_write(path) as file:
        file.write(b"{")
        raise RuntimeError("in the middle")
    assert read_json(path) == {"AP": 1.0}
    assert os.listdir(tmp_path) == ["figures.json"]


def test_folders_are_made_and_permissions_are_the_ordinary_ones(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    write_text(path, "ä")
    (tmp_path / "plain").touch()
    assert path.read_text(encoding="utf-8") == "ä"
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_a_folder_that_cannot_be_made_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write .*file/x"):
        write_text(tmp_path / "file" / "x", "")


def test_a_full_disk_is_bad_input_and_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "figures"
    write_text(path, "old")
    with pytest.raises(UserError, match="No space left"), atomic_write(path):
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["figures"]


def test_reading_what_is_no_json_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UserError, match=r"x\.json"):
        read_json(tmp_path / "x.json")


def test_digest_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert sha256_of(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.timeout(20)
def test_only_ordinary_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"abc")
    for path in (tmp_path / "pipe", Path(os.devnull), Path("/dev/zero")):
        with pytest.raises(OSError, match="no ordinary file"):
            read_ordinary(path)
    assert read_ordinary(tmp_path / "file") == b"abc"
    with pytest.raises(FileNotFoundError):
        read_ordinary(tmp_path / "absent")
