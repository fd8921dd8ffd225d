"""The decoded store: pixels against torchvision, reuse, integrity, unreadable images."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from clop_det.data import store_build
from clop_det.data.layouts import ImageList, read_images
from clop_det.data.store import open_store
from clop_det.errors import UserError
from tests.data.stores import decoded, write_images


@pytest.fixture
def images(tmp_path: Path) -> ImageList:
    return write_images(tmp_path / "data")


@pytest.mark.parametrize("size", [8, 20, 64])
def test_pixels_are_torchvisions_resize_and_centre_crop(images: ImageList, tmp_path: Path, size: int) -> None:
    store = open_store(images, size, tmp_path / "stores")
    assert store.images.shape == (6, 3, size, size)
    assert store.images[:].dtype == torch.uint8
    assert torch.equal(store.labels, images.labels)
    assert (store.files, store.classes) == (images.files, images.classes)
    steps = v2.Compose([v2.Resize(size, v2.InterpolationMode.BILINEAR), v2.CenterCrop(size), v2.PILToTensor()])
    for file, stored in zip(images.files, store.images[:], strict=True):
        with Image.open(images.root / file) as image:
            assert torch.equal(stored, steps(image.convert("RGB")))


def test_an_image_of_the_right_size_is_kept_as_it_is(cluttered: Path) -> None:
    listed = read_images("folder", cluttered, "val")
    store = open_store(listed, 24)
    with Image.open(cluttered / listed.files[5]) as image:
        assert np.array_equal(store.images[5].permute(1, 2, 0).numpy(), np.asarray(image))


def test_real_photographs_are_stored(real_data: Path, tmp_path: Path) -> None:
    listed = read_images("folder", real_data / "bccd_crops_cls", "val")
    store = open_store(listed, 64, tmp_path)
    assert len(store) == len(listed) == 340
    index = 123
    assert np.array_equal(store.images[index].numpy(), decoded(listed, index, 64))


def test_a_second_opening_decodes_nothing(images: ImageList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_store(images, 16, tmp_path / "stores")
    monkeypatch.setattr(store_build, "centre_square", lambda *_: pytest.fail("decoded again"))
    again = open_store(images, 16, tmp_path / "stores")
    assert again.folder == first.folder
    assert torch.equal(again.images[:], first.images[:])
    with pytest.raises(pytest.fail.Exception):
        open_store(images, 17, tmp_path / "stores")  # another size is another store


def test_progress_is_shown_for_many_images_only(
    images: ImageList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    open_store(images, 16, tmp_path)
    assert "decoding images" not in capsys.readouterr().err
    monkeypatch.setattr(store_build, "_PROGRESS_FROM", 3)
    open_store(images, 17, tmp_path)
    assert "decoding images" in capsys.readouterr().err


def test_changed_sources_are_decoded_again(images: ImageList, tmp_path: Path) -> None:
    first = open_store(images, 16, tmp_path / "stores")
    path = images.root / images.files[0]
    Image.new("RGB", (30, 30), (200, 10, 30)).save(path)
    changed = open_store(images, 16, tmp_path / "stores")
    assert changed.folder != first.folder
    assert changed.images[0][:, 8, 8].tolist() != first.images[0][:, 8, 8].tolist()
    assert torch.equal(changed.images[1:], first.images[1:])
    # The same length, touched a nanosecond later: the time tells.
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert open_store(images, 16, tmp_path / "stores").folder != changed.folder


def test_a_copy_with_its_times_shares_the_store(images: ImageList, tmp_path: Path) -> None:
    shutil.copytree(images.root, tmp_path / "copy", copy_function=shutil.copy2)
    copied = read_images("folder", tmp_path / "copy", "train")
    assert open_store(copied, 16, tmp_path / "s").folder == open_store(images, 16, tmp_path / "s").folder


def test_a_name_that_is_not_utf8_is_stored(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "train" / "a"
    folder.mkdir(parents=True)
    name = os.fsencode(folder) + b"/caf\xe9.png"
    try:
        with open(name, "wb") as file:
            Image.new("RGB", (9, 9), (10, 20, 30)).save(file, "PNG")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    listed = read_images("folder", tmp_path / "data", "train")
    assert os.fsencode(listed.files[0]) == b"train/a/caf\xe9.png"
    for _ in range(2):
        assert open_store(listed, 8, tmp_path / "stores").images[0][:, 4, 4].tolist() == [10, 20, 30]


def test_labels_come_from_the_list_not_from_the_store(images: ImageList, tmp_path: Path) -> None:
    open_store(images, 16, tmp_path / "stores")
    hidden = ImageList(images.root, images.files, torch.full((6,), -1), images.classes)
    assert open_store(hidden, 16, tmp_path / "stores").labels.tolist() == [-1] * 6


def test_content_hash_of_the_sources(images: ImageList, tmp_path: Path) -> None:
    expected = hashlib.sha256()
    for file in images.files:
        expected.update(hashlib.sha256((images.root / file).read_bytes()).digest())
    assert open_store(images, 16, tmp_path).sources_sha256 == expected.hexdigest()


def test_writing_to_the_images_does_not_reach_the_file(images: ImageList, tmp_path: Path) -> None:
    store = open_store(images, 16, tmp_path)
    before = store.images[:].clone()
    for part in (store.images[0], store.images[:2], store.images[torch.arange(6)]):
        part.zero_()
    assert torch.equal(store.images[:], before)
    assert torch.equal(open_store(images, 16, tmp_path).images[:], before)


@pytest.mark.parametrize("damage", ["flip", "truncate", "header", "no header", "empty header"])
def test_a_damaged_store_is_reported_and_rebuilt(
    images: ImageList, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    store = open_store(images, 16, tmp_path)
    good, pixels, header = store.images[:].clone(), store.folder / "images.u8", store.folder / "store.json"
    if damage == "flip":
        content = bytearray(pixels.read_bytes())
        content[1000] ^= 1
        pixels.write_bytes(content)
    elif damage == "truncate":
        os.truncate(pixels, 1000)
    elif damage == "header":
        header.write_text(header.read_text().replace('"clop_det image store', '"some other store'))
    elif damage == "no header":
        header.unlink()
    else:
        header.write_text("{}")
    rebuilt = open_store(images, 16, tmp_path)
    assert torch.equal(rebuilt.images[:], good)
    assert "damaged" in caplog.text
    caplog.clear()
    open_store(images, 16, tmp_path)
    assert "damaged" not in caplog.text


def _break(path: Path, kind: str) -> None:
    content = path.read_bytes()
    if kind == "text":
        path.write_text("not an image")
    elif kind == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("kind", ["text", "empty", "truncated"])
@pytest.mark.parametrize("index", [0, 1])  # a PNG and a JPEG
def test_an_unreadable_image_is_named_and_leaves_no_store(
    images: ImageList, tmp_path: Path, kind: str, index: int
) -> None:
    _break(images.root / images.files[index], kind)
    with pytest.raises(UserError, match=f"cannot read image .*{images.files[index]}"):
        open_store(images, 16, tmp_path / "stores")
    assert [path for path in (tmp_path / "stores").iterdir() if not path.name.endswith(".lock")] == []


def test_a_vanished_image_is_named(images: ImageList, tmp_path: Path) -> None:
    (images.root / images.files[2]).unlink()
    with pytest.raises(UserError, match=f"cannot read image .*{images.files[2]}"):
        open_store(images, 16, tmp_path)


def test_empty_lists_are_refused(images: ImageList, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no image to decode"):
        open_store(ImageList(images.root, (), torch.empty(0, dtype=torch.int64), ("a",)), 8, tmp_path)


def test_an_unwritable_cache_is_a_user_error(images: ImageList, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="CLOP_DET_CACHE"):
        open_store(images, 16, tmp_path / "file" / "stores")


def test_opening_a_store_does_not_load_it(tmp_path: Path) -> None:
    """Peak memory of opening and indexing 96 MB of pixels stays far below them."""
    listed = write_images(tmp_path / "data")
    many = ImageList(listed.root, listed.files * 334, listed.labels.repeat(334), listed.classes)
    open_store(many, 128, tmp_path / "stores")
    code = """
import resource, sys, torch
from clop_det.data.layouts import ImageList, read_images
from clop_det.data.store import open_store
listed = read_images("folder", sys.argv[1], "train")
many = ImageList(listed.root, listed.files * 334, listed.labels.repeat(334), listed.classes)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store = open_store(many, 128, sys.argv[2])
store.images[torch.randint(len(store), (32,))].float().mean()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    command = [sys.executable, "-c", code, str(listed.root), str(tmp_path / "stores")]
    kilobytes = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
    assert (tmp_path / "stores").exists()
    assert kilobytes < 40_000
