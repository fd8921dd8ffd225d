"""Checked data sets in the cache folder: found again by content, never trusted blindly, made once a machine."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clop_det.annotations import coco_set, file_content, kept
from clop_det.annotations.checks import Policies
from clop_det.annotations.coco_set import CocoSet
from clop_det.annotations.kept import Loaded, load, metadata_of
from clop_det.annotations.table_file import read_table, write_table
from clop_det.annotations.voc import voc_source
from clop_det.annotations.voc_set import VocSet
from clop_det.files import sha256_of
from tests.detection.spoiled import VOC, spoiled

BOX = {"image_id": 1, "bbox": [1.5, 2, 8, 9], "iscrowd": 0}
MASKS: list[Any] = [
    [[1, 2, 9, 2, 9, 11], [0.25, 0.5, 3, 3, 4, 1]],
    {"size": [24, 40], "counts": [100, 20, 24 * 40 - 120]},
    None,
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLOP_DET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two images; one has three boxes, with polygons, a run-length code and no mask."""
    root = tmp_path / "data"
    root.mkdir()
    for name in "ab":
        Image.fromarray(np.full((24, 40, 3), 9, np.uint8)).save(root / f"{name}.png")
    images = [{"id": "x" if n == "b" else 1, "file_name": f"{n}.png", "height": 24, "width": 40} for n in "ab"]
    boxes = [{**BOX, "id": k, "category_id": 7 + k % 2, "segmentation": mask} for k, mask in enumerate(MASKS)]
    boxes[1]["bbox"], boxes[0]["area"], boxes[2]["category_id"] = [30, 10, 90, 5], 33.5, 8
    content = {"images": images, "annotations": boxes, "categories": [{"id": k, "name": f"c{k}"} for k in (7, 8)]}
    (root / "a.json").write_text(json.dumps(content))
    return root


def loaded(root: Path, policies: Policies = Policies()) -> Loaded:  # noqa: B008
    return load(CocoSet(root / "a.json", [root]), "set", policies)


def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> Any:
        raise AssertionError(f"{path} must not be read again")

    monkeypatch.setattr(coco_set, "read_coco", refuse)


def same(a: Loaded, b: Loaded) -> bool:
    return (list(a.table), a.checks, a.sha256) == (list(b.table), b.checks, b.sha256)


def test_what_is_kept_is_what_was_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = loaded(root)
    assert [len(record["annotations"]) for record in first.table] == [3, 0]
    masks = [entry.get("segmentation") for entry in first.table[0]["annotations"]]
    assert masks[0] == MASKS[0]
    assert masks[1]["size"] == [24, 40]
    assert masks[2] is None
    assert first.checks.counts == {"out_of_image_box": 1}
    metadata = metadata_of(CocoSet(root / "a.json", [root]), Policies())
    assert metadata["thing_dataset_id_to_contiguous_id"] == {7: 0, 8: 1}
    unread(monkeypatch)
    assert same(loaded(root), first)
    assert metadata_of(CocoSet(root / "a.json", [root]), Policies()) == metadata


def test_other_content_policies_or_images_are_read_anew(root: Path) -> None:
    first = loaded(root)
    dropped = loaded(root, Policies.of({"OUT_OF_IMAGE_BOX": "drop"}))
    assert len(dropped.table[0]["annotations"]) == 2
    path = root / "a.json"
    times = path.stat()
    path.write_text(path.read_text().replace("1.5", "2.5"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # the same size and time: content is what counts
    other = loaded(root)
    assert other.table[0]["annotations"][0]["bbox"] == [2.5, 2, 8, 9]
    assert other.sha256 != first.sha256
    (root / "b.png").unlink()
    assert loaded(root).checks.counts["missing_file"] == 1
    Image.fromarray(np.full((24, 40), 9, np.uint8)).save(root / "b.png")
    assert "missing_file" not in loaded(root).checks.counts
    assert loaded(root).checks.counts["grey_image"] == 1


def test_images_that_arrive_after_a_first_reading_are_seen(root: Path) -> None:
    def read() -> tuple[list[str], dict[str, int]]:
        found = load(CocoSet(root / "a.json", [root / "later", root]), "set", Policies.of({"missing_file": "drop"}))
        return [str(Path(record["file_name"]).relative_to(root)) for record in found.table], found.checks.counts

    names, _ = read()
    assert names == ["a.png", "b.png"]
    (root / "later").mkdir()
    for name in "ab":
        (root / f"{name}.png").rename(root / "later" / f"{name}.png")
    assert read()[0] == ["later/a.png", "later/b.png"]
    (root / "later" / "b.png").rename(root / "b.away")
    names, counts = read()
    assert (names, counts["missing_file"]) == (["later/a.png"], 1)
    (root / "b.away").rename(root / "later" / "b.PNG")  # another spelling, which a first reading would not have met
    names, counts = read()
    assert names == ["later/a.png", "later/b.PNG"]
    assert "missing_file" not in counts


@pytest.mark.parametrize("place", [10, 70, 400, -40, -1])
def test_a_damaged_file_is_read_anew(root: Path, cache: Path, place: int) -> None:
    first = loaded(root)
    (path,) = (cache / "data_sets").glob("*.table")
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert same(loaded(root), first)
    assert path.read_bytes()[place] == content[place] ^ 1  # and written anew


@pytest.mark.parametrize("content", [b"", b"{}\n", b"\x80\x04N.", b"0" * 64 + b"\n[" + b"[" * 100_000])
def test_a_foreign_file_is_no_kept_data_set(root: Path, cache: Path, content: bytes) -> None:
    first = loaded(root)
    (path,) = (cache / "data_sets").glob("*.table")
    cut = path.read_bytes()[:-8]
    for foreign in (content, cut):
        path.write_bytes(foreign)
        assert same(loaded(root), first)


def test_a_file_of_another_key_or_of_wrong_places_is_refused(root: Path, tmp_path: Path) -> None:
    found = loaded(root)
    path = tmp_path / "t"
    write_table(path, "key", found.table, {})
    assert read_table(path, "other") is None
    assert read_table(tmp_path / "none", "key") is None
    restored = read_table(path, "key")
    assert restored is not None
    assert list(restored[0]) == list(found.table)
    assert restored[0].digest(["a"]) == found.table.digest(["a"]) != found.table.digest(["b"])


def test_without_a_cache_folder_it_is_read_each_time(root: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert same(loaded(root), loaded(root))


def test_voc_is_kept_by_the_times_of_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = spoiled(tmp_path / "d", VOC, lambda d: None)

    def voc() -> Loaded:
        return load(VocSet(voc_source(data.root, 2007, "train")), "set", Policies())

    first = voc()
    with monkeypatch.context() as patch:
        patch.setattr("clop_det.annotations.voc_set.read_annotation", None)
        assert same(voc(), first)
    path = data.root / "Annotations" / "b.xml"
    path.write_text(path.read_text().replace("<xmin>3<", "<xmin>4<"))
    assert voc().table[1]["annotations"][0]["bbox"][0] == 3
    (data.root / "ImageSets" / "Main" / "train.txt").write_text("a")
    assert len(voc().table) == 1


def _read_in_another_process(root: Path, results: Any) -> None:
    made = kept._make

    def counting(*arguments: Any) -> Any:
        results.put("made")
        return made(*arguments)

    kept._make = counting
    results.put(loaded(root).sha256)


def test_processes_of_a_machine_read_it_once(root: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_read_in_another_process, args=(root, results)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in range(4)]
    for process in processes:
        process.join()
    assert found.count("made") == 1
    assert len(set(found) - {"made"}) == 1


def test_a_checksum_is_remembered_until_the_file_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = root / "a.json"
    first = file_content.content_sha256(path)
    assert first == sha256_of(path)
    monkeypatch.setattr(file_content, "_SETTLED", -1.0)
    assert file_content.content_sha256(path) == first
    with monkeypatch.context() as patch:
        patch.setattr(file_content, "sha256_of", None)
        assert file_content.content_sha256(path) == first
    times = path.stat()
    path.write_bytes(path.read_bytes().replace(b"1.5", b"2.5"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file_content.content_sha256(path) == sha256_of(path) != first
