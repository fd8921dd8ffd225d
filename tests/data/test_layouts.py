"""Folders of classes: files, labels, classes, and what is refused."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from clop_det.data.layouts import LAYOUTS, ImageList, layout_names, read_images, register_layout
from clop_det.data.opening import list_images
from clop_det.errors import UserError
from clop_det.keys import Key, declared


def _touch(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"")


def test_files_labels_and_classes(tmp_path: Path) -> None:
    _touch(tmp_path, "train/dog/b.jpg", "train/dog/a.PNG", "train/cat/z.jpeg", "train/cat/deep/er/y.webp")
    _touch(tmp_path, "train/cat/notes.txt", "train/cat/.hidden.jpg", "train/.cache/x.jpg", "train/list.txt")
    images = read_images("folder", tmp_path, "train")
    assert images.files == ("train/cat/deep/er/y.webp", "train/cat/z.jpeg", "train/dog/a.PNG", "train/dog/b.jpg")
    assert images.labels.tolist() == [0, 0, 1, 1]
    assert images.labels.dtype == torch.int64
    assert images.classes == ("cat", "dog")
    assert images.root == tmp_path
    assert len(images) == 4


def test_labels_mean_the_same_in_a_split_that_lacks_a_class(tmp_path: Path) -> None:
    _touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg", "val/c/1.jpg", "val/a/2.jpg")
    train, val = (read_images("folder", tmp_path, split, ("train", "val")) for split in ("train", "val"))
    assert val.classes == train.classes == ("a", "b", "c")
    assert val.labels.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("data_set", "split", "images", "classes"),
    [("grocery_cls", "val", 296, 43), ("grocery_cls", "train", 2640, 43), ("bccd_crops_cls", "train", 1493, 3)],
)
def test_real_photographs(real_data: Path, data_set: str, split: str, images: int, classes: int) -> None:
    listed = read_images("folder", real_data / data_set, split, ("train",))
    assert len(listed) == images
    assert len(listed.classes) == classes
    for file, label in zip(listed.files, listed.labels.tolist(), strict=True):
        assert Path(file).parts[:2] == (split, listed.classes[label])


def test_missing_root_or_split_is_refused(tmp_path: Path) -> None:
    _touch(tmp_path, "train/a/1.jpg")
    with pytest.raises(UserError, match=r"no split folder 'test' in .*; folders there: train"):
        read_images("folder", tmp_path, "test")
    with pytest.raises(UserError, match="no split folder ''"):
        read_images("folder", tmp_path, "")
    with pytest.raises(UserError, match="nowhere' does not exist"):
        read_images("folder", tmp_path / "nowhere", "train")


def test_a_class_without_an_image_is_refused(tmp_path: Path) -> None:
    _touch(tmp_path, "train/a/1.jpg", "train/b/readme.txt")
    with pytest.raises(UserError, match=r"class folder .*train/b holds no image"):
        read_images("folder", tmp_path, "train")


def test_a_split_without_class_folders_is_unlabelled(tmp_path: Path) -> None:
    _touch(tmp_path, "train/2.jpg", "train/1.GIF", "train/readme.txt")
    images = read_images("folder", tmp_path, "train")
    assert images.files == ("train/1.GIF", "train/2.jpg")
    assert images.labels.tolist() == [-1, -1]
    assert images.classes == ()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds neither class folders nor images"):
        read_images("folder", tmp_path, "empty")


@pytest.mark.parametrize("name", ["unlabelled", "Unlabeled", "-1", "nan"])
def test_a_folder_called_unlabelled_is_no_class(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    _touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", f"train/{name}/1.jpg", f"train/{name}/2.jpg")
    images = read_images("folder", tmp_path, "train")
    assert images.classes == ("a", "b")
    by_file = dict(zip(images.files, images.labels.tolist(), strict=True))
    assert by_file[f"train/{name}/2.jpg"] == by_file[f"train/{name}/1.jpg"] == -1
    assert sorted(by_file.values()) == [-1, -1, 0, 1]
    assert f"the 2 images in {tmp_path}/train/{name} count as unlabelled" in caplog.text


def test_folders_beside_the_splits_are_no_classes(tmp_path: Path) -> None:
    _touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "val/a/2.jpg", "__MACOSX/train/x/1.jpg", "output/run1/1.png")
    _touch(tmp_path, "annotations/xml/1.xml", "test/images/1.jpg", "unlabelled/images/1.jpg", "val/__MACOSX/1.jpg")
    for split in ("train", "val"):
        assert read_images("folder", tmp_path, split, ("train", "val")).classes == ("a", "b")
    assert read_images("folder", tmp_path, "train", ("val", "test", "absent")).classes == ("a", "b", "images")


def test_what_is_not_read_is_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _touch(
        tmp_path, "train/a/1.jpg", "train/a/2.HEIC", "train/a/3.heic", "train/b/1.png", "train/b/notes", "train/9.jpg"
    )
    _touch(tmp_path, "train/a/Thumbs.db", "train/a/.DS_Store")
    read_images("folder", tmp_path, "train")
    assert "3 files in" in caplog.text
    assert "not read: 2 .heic, 1 without suffix" in caplog.text
    assert "1 images such as 9.jpg lie beside the class folders" in caplog.text


def test_hidden_folders_in_a_class_do_not_count(tmp_path: Path) -> None:
    _touch(tmp_path, "train/a/1.png", "train/a/.ipynb_checkpoints/1-checkpoint.png", "train/a/x/.thumbs/deep/2.png")
    assert read_images("folder", tmp_path, "train").files == ("train/a/1.png",)


def test_links_are_followed_but_no_folder_is_read_twice(tmp_path: Path) -> None:
    _touch(tmp_path, "data/train/a/1.png", "data/train/a/x/2.png", "data/train/b/3.png", "data/val/a/4.png")
    _touch(tmp_path, "elsewhere/5.png", "elsewhere/deep/6.png")
    train = tmp_path / "data" / "train"
    (train / "a" / "far").symlink_to(tmp_path / "elsewhere")
    expected = ("train/a/1.png", "train/a/far/5.png", "train/a/far/deep/6.png", "train/a/x/2.png", "train/b/3.png")
    assert read_images("folder", tmp_path / "data", "train").files == expected
    (train / "a" / "again").symlink_to(train / "a")  # itself
    assert read_images("folder", tmp_path / "data", "train").files == expected
    (train / "a" / "all").symlink_to("..")  # the whole split
    (train / "a" / "x" / "up").symlink_to("..")
    (train / "a" / "first").symlink_to("x")  # once under its own name
    (train / "everything").symlink_to(".")
    (tmp_path / "data" / "root").symlink_to(".")
    listed = read_images("folder", tmp_path / "data", "train")
    assert listed.files == expected
    assert listed.classes == ("a", "b")


def _denied(path: Any) -> PermissionError:
    return PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))


def test_a_split_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _touch(tmp_path, "train/a/1.png")
    iterdir = Path.iterdir

    def refuse(self: Path) -> Any:
        if self.name == "train":
            raise _denied(self)
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", refuse)  # permissions do not bind root
    with pytest.raises(UserError, match=r"cannot list the folder .*train: Permission denied; make it readable"):
        read_images("folder", tmp_path, "train")


def test_a_folder_of_a_class_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _touch(tmp_path, "train/a/1.png", "train/a/closed/2.png")
    scandir = os.scandir

    def refuse(path: Any = ".") -> Any:
        if str(path).endswith("closed"):
            raise _denied(path)
        return scandir(path)

    with (
        monkeypatch.context() as patch,
        pytest.raises(UserError, match=r"cannot list the folder .*train/a/closed: Permission denied; make it"),
    ):
        patch.setattr(os, "scandir", refuse)
        read_images("folder", tmp_path, "train")


def test_unknown_layout_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"CLASSIFICATION.LAYOUT names the layout 'zip', .*Known are .*folder"):
        read_images("zip", tmp_path, "train")


def test_a_registered_layout_is_found_and_a_name_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LAYOUTS, "_entries", {})
    monkeypatch.setattr("clop_det.keys._DECLARED", {})
    monkeypatch.setattr("clop_det.data.layouts.registry._CLASSES", {})

    @register_layout("one", {"SUFFIX": Key(".png", "Ending of the files.")})
    def read_one(root: Path, split: str, suffix: str) -> ImageList:
        return ImageList(root, (f"{split}{suffix}",), torch.tensor([0]), ("thing",))

    assert layout_names() == ["one"]
    assert "CLASSIFICATION.LAYOUTS.ONE.SUFFIX" in declared()
    assert read_images("one", tmp_path, "x", suffix=".bmp").files == ("x.bmp",)
    settings = {"LAYOUT": "one", "ROOT": str(tmp_path), "LAYOUTS": {"ONE": {"SUFFIX": ".jpg"}}, "UNLABELLED_ROOT": ""}
    settings |= {"TRAIN_SPLIT": "train", "EVAL_SPLIT": "val"}
    assert list_images(settings, "y").files == ("y.jpg",)
    with pytest.raises(UserError, match="layout 'one' of .* is registered already"):
        register_layout("one")(read_one)


def test_labels_must_fit_the_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 files, but labels of shape"):
        ImageList(tmp_path, ("a", "b"), torch.tensor([0]), ("x",))
