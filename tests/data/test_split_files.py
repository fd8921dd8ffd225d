"""Frozen splits and given lists: read back as they were, and refused where they do not fit."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from clop_det.data.layouts import ImageList
from clop_det.data.split_files import load_split, save_split
from clop_det.data.splits import VisibleLabels, label_split
from clop_det.errors import UserError


def _visible(images: ImageList, indices: list[int]) -> VisibleLabels:
    return VisibleLabels(torch.tensor(indices), images.labels[indices])


@pytest.fixture
def images(tmp_path: Path) -> ImageList:
    files = tuple(f"train/{name}/{i}.png" for name in ("cat", "dog") for i in range(10))
    return ImageList(tmp_path, files, torch.arange(20) // 10, ("cat", "dog"))


def test_a_saved_split_is_read_back_and_readable(tmp_path: Path, images: ImageList) -> None:
    indices = label_split(images.labels, 0.2, 7)
    visible = VisibleLabels(indices, images.labels[indices])
    save_split(tmp_path / "split.json", images, visible, {"fraction": 0.2, "seed": 7})
    read = load_split(tmp_path / "split.json", images)
    assert torch.equal(read.indices, indices)
    assert torch.equal(read.told, visible.told)
    content = json.loads((tmp_path / "split.json").read_text())
    assert content["labelled"]["dog"] == [images.files[i] for i in indices.tolist() if i >= 10]
    assert (content["fraction"], content["seed"], content["labelled_images"]) == (0.2, 7, 4)


def _tampered(tmp_path: Path, images: ImageList, change) -> Path:  # type: ignore[no-untyped-def]
    path = tmp_path / "split.json"
    save_split(path, images, VisibleLabels(torch.tensor([0, 1, 12]), torch.tensor([0, 1, 1])))
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["labelled"]["cat"].append("train/cat/99.png"), "lists 'train/cat/99.png', which is not in"),
        (lambda c: c["labelled"]["cat"].append("train/dog/3.png"), "as 'cat', but the data set says 'dog'"),
        (lambda c: c["labelled"].update(dog=[]), "class 'dog' has no labelled image"),
        (lambda c: c["labelled"].update(bird=["x"]), r"classes differ \(\['bird'\]\)"),
        (lambda c: c["labelled"].update(dog="train/dog/3.png"), "must map each class to a list"),
        (lambda c: c.update(images_sha256="0"), "another list of 20 images"),
        (lambda c: c.update(format="x"), "is not a label split"),
        (lambda c: c.update(told={"train/cat/2.png": "dog"}), "'told' must map labelled files"),
        (lambda c: c.update(told={"train/cat/0.png": "cow"}), "'told' must map labelled files"),
        (lambda c: c.update(told=[]), "'told' must map labelled files"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, images: ImageList, change, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=message):
        load_split(_tampered(tmp_path, images, change), images)


def test_a_split_of_another_data_set_is_refused(tmp_path: Path, images: ImageList) -> None:
    save_split(tmp_path / "split.json", images, _visible(images, [0, 12]))
    grown = ImageList(
        images.root, (*images.files, "train/dog/new.png"), torch.cat([images.labels, torch.tensor([1])]), images.classes
    )
    with pytest.raises(UserError, match="another list of 20 images than the 21"):
        load_split(tmp_path / "split.json", grown)


def test_missing_or_broken_files_are_user_errors(tmp_path: Path, images: ImageList) -> None:
    with pytest.raises(UserError, match="nowhere.json"):
        load_split(tmp_path / "nowhere.json", images)
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(UserError, match="broken.json"):
        load_split(tmp_path / "broken.json", images)
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(UserError, match="is not a label split"):
        load_split(tmp_path / "list.json", images)


def test_a_wrong_label_is_frozen_with_the_class_it_was_told_as(tmp_path: Path, images: ImageList) -> None:
    visible = VisibleLabels(torch.tensor([0, 1, 12]), torch.tensor([0, 1, 1]))
    save_split(tmp_path / "split.json", images, visible)
    content = json.loads((tmp_path / "split.json").read_text())
    assert content["labelled"]["cat"] == ["train/cat/0.png", "train/cat/1.png"]
    assert content["told"] == {"train/cat/1.png": "dog"}
    assert load_split(tmp_path / "split.json", images).told.tolist() == [0, 1, 1]


@pytest.fixture
def wnids(tmp_path: Path) -> ImageList:
    names = [f"train/{wnid}/{wnid}_{i}.JPEG" for wnid in ("n01440764", "n01443537") for i in range(3)]
    return ImageList(
        tmp_path, (*names, "train/n01443537/x/n01440764_0.png"), torch.tensor([0, 0, 0, 1, 1, 1, 1]), ("a", "b")
    )


@pytest.mark.parametrize(
    "lines",
    [
        ["n01443537_2.JPEG", "n01440764_1.JPEG"],  # as the published lists of ImageNet
        ["n01443537/n01443537_2.JPEG", "", "./train/n01440764/n01440764_1.JPEG  "],
    ],
)
def test_a_list_of_names_is_accepted(tmp_path: Path, wnids: ImageList, lines: list[str]) -> None:
    (tmp_path / "1percent.txt").write_text("\n".join(lines) + "\n")
    read = load_split(tmp_path / "1percent.txt", wnids)
    assert read.indices.tolist() == [1, 5]
    assert read.told.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["n01440764_1.JPEG", "n01440764_9.JPEG"], "line 2: 'n01440764_9.JPEG' is not in"),
        (["01440764_1.JPEG"], "is not in"),  # the end of a name is no name
        (["n01440764_1.JPEG"], "lists no image of class 'b' .1 of 2"),
        ([], "lists no image of class 'a'"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(tmp_path: Path, wnids: ImageList, lines: list[str], message: str) -> None:
    (tmp_path / "list.txt").write_text("\n".join(lines))
    with pytest.raises(UserError, match=message):
        load_split(tmp_path / "list.txt", wnids)


def test_an_ambiguous_or_unlabelled_name_is_refused(tmp_path: Path) -> None:
    images = ImageList(tmp_path, ("a/1.png", "b/1.png", "2.png"), torch.tensor([0, 0, -1]), ("a",))
    (tmp_path / "list.txt").write_text("1.png")
    with pytest.raises(UserError, match=r"fits 2 images \(a/1.png, ...\)"):
        load_split(tmp_path / "list.txt", images)
    (tmp_path / "list.txt").write_text("b/1.png\n2.png")
    with pytest.raises(UserError, match="line 2: '2.png' has no label"):
        load_split(tmp_path / "list.txt", images)
    with pytest.raises(UserError, match="cannot read the label split .*nowhere.txt"):
        load_split(tmp_path / "nowhere.txt", images)


@pytest.mark.parametrize("form", ["json", "txt"])
def test_names_that_are_not_utf8_are_read_back(tmp_path: Path, form: str) -> None:
    files = tuple(os.fsdecode(name) for name in (b"train/a/caf\xe9.png", b"train/a/\xff.png", b"train/b/z\xc3\xa9.png"))
    images = ImageList(tmp_path, files, torch.tensor([0, 0, 1]), ("a", "b"))
    visible = VisibleLabels(torch.tensor([0, 2]), torch.tensor([0, 1]))
    path = tmp_path / f"split.{form}"
    if form == "json":
        save_split(path, images, visible)
    else:
        path.write_bytes(b"caf\xe9.png\nz\xc3\xa9.png\n")
    read = load_split(path, images)
    assert torch.equal(read.indices, visible.indices)
    assert torch.equal(read.told, visible.told)
    renamed = ImageList(tmp_path, (files[0], os.fsdecode(b"train/a/\xfe.png"), files[2]), images.labels, ("a", "b"))
    if form == "json":
        with pytest.raises(UserError, match="another list of 3 images"):
            load_split(path, renamed)


def test_a_list_that_is_no_text_is_refused(tmp_path: Path, images: ImageList) -> None:
    (tmp_path / "list.txt").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(UserError, match="line 1: .* is not in the data set"):
        load_split(tmp_path / "list.txt", images)
    with pytest.raises(UserError, match="cannot read the label split"):
        load_split(tmp_path, images)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_from_windows(tmp_path: Path, images: ImageList, encoding: str) -> None:
    lines = "train\\cat\\0.png\r\ndog\\3.png"
    (tmp_path / "list.txt").write_text(lines, encoding=encoding, newline="")
    assert [images.files[i] for i in load_split(tmp_path / "list.txt", images).indices] == [
        "train/cat/0.png",
        "train/dog/3.png",
    ]


def test_a_backslash_that_is_part_of_a_name_stays_one(tmp_path: Path) -> None:
    files = ("train/a/x\\y.png", "train/b/y.png")
    images = ImageList(tmp_path, files, torch.tensor([0, 1]), ("a", "b"))
    (tmp_path / "list.txt").write_text("x\\y.png\nb\\y.png\n")
    assert load_split(tmp_path / "list.txt", images).indices.tolist() == [0, 1]
