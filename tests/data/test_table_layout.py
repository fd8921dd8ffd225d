"""Tables of images: separators, encodings, headers, marks of no label, and what is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from clop_det.data.layouts import read_images
from clop_det.errors import UserError


def test_a_table(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text('path,label\na/1.jpg,dog\n2.png,\n\n"x, y.jpg",cat\n')
    (tmp_path / "val.csv").write_text("path,label\r\nv.jpg,emu\r\n")
    (tmp_path / "notes.csv").write_text("who,what\nme,that\n")
    train, val = (read_images("csv", tmp_path, split, ("train", "val")) for split in ("train", "val"))
    assert train.classes == val.classes == ("cat", "dog", "emu")
    assert train.files == ("a/1.jpg", "2.png", "x, y.jpg")
    assert train.labels.tolist() == [1, -1, 0]
    assert val.labels.tolist() == [2]


def test_tables_with_a_header_in_any_case_share_their_classes(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("Path, Label\na.jpg,dog\nb.jpg,cat\n")
    (tmp_path / "val.csv").write_text("path,label\nv.jpg,emu\n")
    train, val = (read_images("csv", tmp_path, split, ("train", "val")) for split in ("train", "val"))
    assert train.classes == val.classes == ("cat", "dog", "emu")


def test_other_tables_beside_ours_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("path,label\na.jpg,dog\n")
    (tmp_path / "long.csv").write_text("x" * 200_000 + ",y\n")
    (tmp_path / "latin.csv").write_bytes(b"caf\xe9,label\n")
    (tmp_path / "old.csv").mkdir()
    assert read_images("csv", tmp_path, "train").classes == ("dog",)
    with pytest.raises(UserError, match="no table old.csv"):
        read_images("csv", tmp_path, "old")
    for split in ("long", "latin"):
        with pytest.raises(UserError, match=rf"cannot read .*{split}.csv as a table"):
            read_images("csv", tmp_path, split)


@pytest.mark.parametrize("mark", ["-1", "nan", "NaN", "unlabelled", "Unlabeled"])
def test_marks_of_no_label_are_no_class(tmp_path: Path, mark: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "train.csv").write_text(f"path,label\na.jpg,{mark}\nb.jpg,cat\nc.jpg,\n")
    images = read_images("csv", tmp_path, "train")
    assert images.classes == ("cat",)
    assert images.labels.tolist() == [-1, 0, -1]
    assert f"1 images with the label {mark!r} count as unlabelled" in caplog.text


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_table_from_windows(tmp_path: Path, separator: str, encoding: str) -> None:
    rows = [("path", "label"), ("train\\a\\1.jpg", "k\xe4se"), ("train\\b\\2.jpg", "")]
    (tmp_path / "train.csv").write_text("\r\n".join(map(separator.join, rows)), encoding=encoding, newline="")
    images = read_images("csv", tmp_path, "train")
    assert images.files == ("train/a/1.jpg", "train/b/2.jpg")
    assert images.classes == ("k\xe4se",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n", "first line is 'file,label'; it must be 'path,label'"),
        ("path,label\n", "lists no image"),
        ("path,label\na.jpg,dog\nb.jpg\n", "line 3: 1 fields"),
        ("path,label\n../a.jpg,dog\n", "line 2: '../a.jpg' must be a path below"),
        ("path,label\n/a.jpg,dog\n", "line 2: '/a.jpg' must be a path below"),
        ("path,label\na.jpg,dog\na.jpg,\n", "line 3: 'a.jpg' is listed twice"),
        ("path,label\n,dog\n", "line 2: '' must be a path"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "train.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_images("csv", tmp_path, "train")


def test_a_missing_table_names_those_there(tmp_path: Path) -> None:
    (tmp_path / "val.csv").write_text("path,label\na.jpg,x\n")
    with pytest.raises(UserError, match="no table train.csv in .* there: val"):
        read_images("csv", tmp_path, "train")
