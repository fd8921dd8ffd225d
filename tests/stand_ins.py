"""Small made-up data sets in the layouts of the public ones, written byte by byte as their archives are."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
from PIL import Image


def pixels(count: int, size: int, seed: int = 0) -> np.ndarray:  # type: ignore[type-arg]
    """(count, 3, size, size) uint8 noise."""
    return np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), dtype=np.uint8)


def labels_of(count: int, classes: int) -> list[int]:
    return [index % classes for index in range(count)]


def cifar10_python(root: Path, train: int = 20, test: int = 10) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    _pickle(folder / "batches.meta", {"label_names": [f"class{k}" for k in range(10)], "num_vis": 3072})
    for number in range(1, 6):
        _pickle(folder / f"data_batch_{number}", _batch(train, 10, "labels", number))
    _pickle(folder / "test_batch", _batch(test, 10, "labels", 6))


def cifar10_binary(root: Path, train: int = 20, test: int = 10) -> None:
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    (folder / "batches.meta.txt").write_text("".join(f"class{k}\n" for k in range(10)) + "\n")
    for name, count, seed in [*((f"data_batch_{n}.bin", train, n) for n in range(1, 6)), ("test_batch.bin", test, 6)]:
        labels = np.array(labels_of(count, 10), dtype=np.uint8)[:, None]
        (folder / name).write_bytes(np.hstack([labels, pixels(count, 32, seed).reshape(count, -1)]).tobytes())


def cifar100_python(root: Path, train: int = 200, test: int = 100) -> None:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    _pickle(folder / "meta", {"fine_label_names": [f"fine{k}" for k in range(100)], "coarse_label_names": ["c"] * 20})
    _pickle(folder / "train", _batch(train, 100, "fine_labels", 1))
    _pickle(folder / "test", _batch(test, 100, "fine_labels", 2))


def cifar100_binary(root: Path, train: int = 200, test: int = 100) -> None:
    folder = root / "cifar-100-binary"
    folder.mkdir(parents=True)
    (folder / "fine_label_names.txt").write_text("".join(f"fine{k}\n" for k in range(100)))
    for name, count, seed in (("train.bin", train, 1), ("test.bin", test, 2)):
        fine = np.array(labels_of(count, 100), dtype=np.uint8)[:, None]
        (folder / name).write_bytes(np.hstack([fine // 5, fine, pixels(count, 32, seed).reshape(count, -1)]).tobytes())


def stl10(root: Path, train: int = 20, test: int = 10, unlabelled: int = 12) -> None:
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    (folder / "class_names.txt").write_text("".join(f"class{k}\n" for k in range(10)))
    for name, count, seed in (("train", train, 1), ("test", test, 2), ("unlabeled", unlabelled, 3)):
        # The archive holds each channel column by column.
        (folder / f"{name}_X.bin").write_bytes(pixels(count, 96, seed).transpose(0, 1, 3, 2).tobytes())
        if name != "unlabeled":
            (folder / f"{name}_y.bin").write_bytes(bytes(label + 1 for label in labels_of(count, 10)))


def tiny_imagenet(root: Path, classes: int = 4, train: int = 4, val: int = 2, size: int = 64) -> None:
    folder = root / "tiny-imagenet-200"
    wnids = _wnids(classes)
    folder.mkdir(parents=True)
    (folder / "wnids.txt").write_text("\n".join(reversed(wnids)) + "\n")  # the real one is not sorted either
    for wnid in wnids:
        for index in range(train):
            save(folder / "train" / wnid / "images" / f"{wnid}_{index}.JPEG", size)
    lines = []
    for index in range(classes * val):
        save(folder / "val" / "images" / f"val_{index}.JPEG", size)
        lines.append(f"val_{index}.JPEG\t{wnids[index % classes]}\t0\t0\t62\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    save(folder / "test" / "images" / "test_0.JPEG", size)


def imagenet(root: Path, classes: int = 4, train: int = 4, val: int = 2, flat: bool = False, size: int = 70) -> None:
    wnids = _wnids(classes)
    for wnid in wnids:
        for index in range(train):
            save(root / "train" / wnid / f"{wnid}_{index}.JPEG", size, wide=10 * index)
    lines = []
    for index in range(classes * val):
        name, wnid = f"ILSVRC2012_val_{index + 1:08d}", wnids[index % classes]
        save(root / "val" / ("" if flat else wnid) / f"{name}.JPEG", size, wide=10 * index)
        lines.append(f"{name}.JPEG {wnid}\n")
    if flat:
        (root / "val.txt").write_text("".join(lines))


def save(path: Path, size: int, wide: int = 0) -> None:
    """A JPEG of size x (size + wide) pixels, smooth enough to compress."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(len(str(path.name)) + wide).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(small).resize((size + wide, size), Image.Resampling.BICUBIC).save(path, quality=90)


def _wnids(classes: int) -> list[str]:
    return [f"n0144{index:04d}" for index in range(classes)]


def _batch(count: int, classes: int, key: str, seed: int) -> dict[str, object]:
    return {"data": pixels(count, 32, seed).reshape(count, -1), key: labels_of(count, classes), "batch_label": "b"}


def _pickle(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))
