"""CIFAR, STL-10, Tiny-ImageNet, ImageNet and joined folders: against torchvision's readers, and damage."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from clop_det.config.reading import read_config
from clop_det.data.layouts import ImageList, cifar, read_images
from clop_det.data.layouts.folder import read_unlabelled
from clop_det.data.opening import list_images
from clop_det.data.store import open_store
from clop_det.errors import UserError
from tests import stand_ins


def _images(listed: ImageList) -> np.ndarray:  # type: ignore[type-arg]
    return np.stack([np.asarray(listed.source.image(index)) for index in range(len(listed))])


@pytest.mark.parametrize(
    ("layout", "write", "reader"),
    [
        ("cifar10", stand_ins.cifar10_python, datasets.CIFAR10),
        ("cifar100", stand_ins.cifar100_python, datasets.CIFAR100),
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_cifar_is_what_torchvision_reads(  # type: ignore[no-untyped-def]
    tmp_path: Path, layout: str, write, reader, split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    monkeypatch.setattr(
        "torchvision.datasets.cifar.check_integrity", lambda *_: True
    )  # its checksums are the real ones
    expected = reader(tmp_path, train=split == "train")
    listed = read_images(layout, tmp_path, split)
    assert np.array_equal(_images(listed), expected.data)
    assert listed.labels.tolist() == expected.targets
    assert list(listed.classes) == expected.classes
    assert len(set(listed.files)) == len(listed)


@pytest.mark.parametrize(
    ("layout", "python", "binary"),
    [
        ("cifar10", stand_ins.cifar10_python, stand_ins.cifar10_binary),
        ("cifar100", stand_ins.cifar100_python, stand_ins.cifar100_binary),
    ],
)
def test_the_binary_archive_holds_the_same(tmp_path: Path, layout: str, python, binary) -> None:  # type: ignore[no-untyped-def]
    python(tmp_path / "python")
    binary(tmp_path / "binary")
    for split in ("train", "test"):
        one, other = (read_images(layout, tmp_path / kind, split) for kind in ("python", "binary"))
        assert one.files == other.files  # so a label split made with one fits the other
        assert one.classes == other.classes
        assert torch.equal(one.labels, other.labels)
        assert np.array_equal(_images(one), _images(other))
    inner = next((tmp_path / "binary").iterdir())
    assert read_images(layout, inner, "test").files == other.files  # the extracted folder itself


@pytest.mark.parametrize(
    ("write", "load"), [(stand_ins.cifar10_python, "load_python"), (stand_ins.cifar10_binary, "load_binary10")]
)
def test_a_file_of_an_archive_is_loaded_once(  # type: ignore[no-untyped-def]
    tmp_path: Path, write, load: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    loaded: list[str] = []
    original = getattr(cifar, load)

    def counting(path: Path) -> np.ndarray:  # type: ignore[type-arg]
        loaded.append(path.name)
        found: np.ndarray = original(path)  # type: ignore[type-arg]
        return found

    monkeypatch.setattr(cifar, load, counting)
    listed = read_images("cifar10", tmp_path, "train")
    expected = _images(listed)
    assert len(set(loaded)) == 5
    loaded.clear()
    for index in np.random.default_rng(0).integers(0, len(listed), 64).tolist():
        assert np.array_equal(np.asarray(listed.source.image(index)), expected[index])
    assert not loaded


def test_a_pickle_that_wants_to_run_something_is_refused(tmp_path: Path) -> None:
    stand_ins.cifar10_python(tmp_path)

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    batch = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    batch.write_bytes(pickle.dumps({"data": Bomb(), "labels": []}))
    with pytest.raises(UserError, match="data_batch_3 is a pickle .*Nothing in it was run. Download the archive again"):
        read_images("cifar10", tmp_path, "train")
    assert not (tmp_path / "exploded").exists()
    assert len(read_images("cifar10", tmp_path, "test")) == 10


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": np.zeros((3, 3072), np.uint8)}, "no list 'labels'"),
        ([], "no list 'labels'"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}, "labels from 0 to 10 for 10 classes"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [1, 2]}, "data_batch_1 has 2 labels for 1 images"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, "data_batch_1 has 1 labels for 2 images"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": ["cat"]}, "a label that is no number"),
        ({"data": np.zeros((1, 30), np.uint8), "labels": [1]}, "no array 'data' of n x 3072 bytes"),
    ],
)
def test_a_batch_that_is_none_is_named(tmp_path: Path, content: object, message: str) -> None:
    stand_ins.cifar10_python(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=message):
        read_images("cifar10", tmp_path, "train")


def test_damaged_or_missing_archives_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither cifar-10-batches-py nor cifar-10-batches-bin"):
        read_images("cifar10", tmp_path, "train")
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"")
    with pytest.raises(UserError, match="extract cifar-10-python.tar.gz there"):
        read_images("cifar10", tmp_path, "train")
    stand_ins.cifar10_binary(tmp_path)
    os.truncate(tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin", 5000)
    with pytest.raises(UserError, match="data_batch_2.bin has 5000 bytes, no multiple of 3073"):
        read_images("cifar10", tmp_path, "train")
    (tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin").unlink()
    with pytest.raises(UserError, match="cannot read .*data_batch_2.bin"):
        read_images("cifar10", tmp_path, "train")
    with pytest.raises(UserError, match="splits train, test"):
        read_images("cifar10", tmp_path, "val")


def test_stl10_is_what_torchvision_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins.stl10(tmp_path)
    monkeypatch.setattr("torchvision.datasets.stl10.check_integrity", lambda *_: True)
    for split, theirs in (("train", "train"), ("test", "test"), ("train+unlabelled", "train+unlabeled")):
        (tmp_path / "stl10_binary" / "fold_indices.txt").write_text("")
        expected = datasets.STL10(tmp_path, split=theirs)
        listed = read_images("stl10", tmp_path, split)
        assert np.array_equal(_images(listed).transpose(0, 3, 1, 2), expected.data)
        assert listed.labels.tolist() == expected.labels.tolist()
        assert list(listed.classes) == expected.classes
    with pytest.raises(UserError, match="share images"):
        read_images("stl10", tmp_path, "train+train")
    os.truncate(tmp_path / "stl10_binary" / "unlabeled_X.bin", 1000)
    with pytest.raises(UserError, match="unlabeled_X.bin has 1000 bytes"):
        read_images("stl10", tmp_path, "unlabelled")


def test_an_archive_is_stored_and_a_changed_one_again(tmp_path: Path) -> None:
    stand_ins.cifar10_binary(tmp_path)
    listed = read_images("cifar10", tmp_path, "train")
    store = open_store(listed, 32, tmp_path / "stores")
    assert np.array_equal(store.images[:].permute(0, 2, 3, 1).numpy(), _images(listed))
    batch = tmp_path / "cifar-10-batches-bin" / "data_batch_5.bin"
    os.utime(batch, ns=(0, batch.stat().st_mtime_ns + 1))
    assert open_store(listed, 32, tmp_path / "stores").folder != store.folder


def test_tiny_imagenet(tmp_path: Path) -> None:
    stand_ins.tiny_imagenet(tmp_path)
    train, val = (read_images("tiny_imagenet", tmp_path, split) for split in ("train", "val"))
    assert train.classes == val.classes == ("n01440000", "n01440001", "n01440002", "n01440003")
    for file, label in zip(train.files, train.labels.tolist(), strict=True):
        assert file.split("/")[:3] == ["train", train.classes[label], "images"]
    assert val.labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert val.files[5] == "val/images/val_5.JPEG"
    assert read_images("tiny_imagenet", tmp_path / "tiny-imagenet-200", "test").labels.tolist() == [-1]
    table = tmp_path / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    table.write_text(table.read_text().replace("val_3.JPEG", "val_33.JPEG"))
    with pytest.raises(UserError, match="no line for val_3.JPEG"):
        read_images("tiny_imagenet", tmp_path, "val")
    table.write_text("val_0.JPEG\tn999\n")
    with pytest.raises(UserError, match="no line for val_1"):
        read_images("tiny_imagenet", tmp_path, "val")


@pytest.mark.parametrize("kind", ["folders", "wnids", "numbers", "kaggle"])
def test_imagenet(tmp_path: Path, kind: str) -> None:
    stand_ins.imagenet(tmp_path, flat=kind != "folders")
    if kind in ("numbers", "kaggle"):
        lines = (tmp_path / "val.txt").read_text().splitlines()
        (tmp_path / "val.txt").unlink()
        if kind == "numbers":
            text = "".join(f"{line[:-9]}{int(line[-4:])}\n" for line in lines)
            (tmp_path / "val" / "val.txt").write_text(text)
        else:
            rows = [line.replace(".JPEG ", ",") + " 1 2 3 4 " for line in lines]
            (tmp_path / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows]))
    train, val = (read_images("imagenet", tmp_path, split) for split in ("train", "val"))
    assert train.labels.tolist() == [k for k in range(4) for _ in range(4)]
    assert val.classes == train.classes
    truth = {f"ILSVRC2012_val_{index + 1:08d}.JPEG": index % 4 for index in range(8)}
    assert {file.rsplit("/", 1)[-1]: label for file, label in zip(val.files, val.labels.tolist(), strict=True)} == truth


def test_imagenet_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    stand_ins.imagenet(tmp_path, flat=True)
    text = (tmp_path / "val.txt").read_text()
    (tmp_path / "val.txt").unlink()
    with pytest.raises(UserError, match="neither class folders nor a table .*val.txt"):
        read_images("imagenet", tmp_path, "val")
    (tmp_path / "val.txt").write_text(text.replace("n01440002", "n09999999"))
    with pytest.raises(UserError, match="'n09999999' of .* is none of the 4 class folders"):
        read_images("imagenet", tmp_path, "val")
    (tmp_path / "val.txt").write_text(text.split("\n", 1)[1])
    with pytest.raises(UserError, match=r"no line for ILSVRC2012_val_00000001.JPEG \(1 of 8"):
        read_images("imagenet", tmp_path, "val")
    (tmp_path / "val" / "n0").mkdir()
    with pytest.raises(UserError, match="n0 is no class of the data set"):
        read_images("imagenet", tmp_path, "val")


def test_an_unlabelled_folder_joins_the_training_images_alone(tmp_path: Path) -> None:
    for name in (
        "labelled/train/a/1.png",
        "labelled/train/b/1.png",
        "labelled/val/a/9.png",
        "more/x/1.png",
        "more/2.jpg",
    ):
        stand_ins.save(tmp_path / name, 8)
    options = [
        "CLASSIFICATION.ROOT",
        str(tmp_path / "labelled"),
        "CLASSIFICATION.UNLABELLED_ROOT",
        str(tmp_path / "more"),
    ]
    settings = read_config("", options).CLASSIFICATION
    train, val = (list_images(settings, split) for split in ("train", "val"))
    assert train.files == ("train/a/1.png", "train/b/1.png", "unlabelled/2.jpg", "unlabelled/x/1.png")
    assert train.labels.tolist() == [0, 1, -1, -1]
    assert val.files == ("val/a/9.png",)
    assert train.source.image(3).size == (8, 8)
    assert open_store(train, 8, tmp_path / "stores").images[:].shape == (4, 3, 8, 8)
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="none holds no image"):
        read_unlabelled(tmp_path / "none", ())
