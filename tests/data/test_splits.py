"""Label splits: stratified, seeded, nested, frozen to a file that is checked when it is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clop_det.data.layouts import ImageList
from clop_det.data.splits import label_split, load_split, masked_labels, save_split
from clop_det.errors import UserError

counts_of_classes = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def _labels(counts: list[int]) -> torch.Tensor:
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]


@given(counts=counts_of_classes, fraction=st.floats(0.001, 1.0), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_every_class_gets_its_share_and_at_least_one(counts: list[int], fraction: float, seed: int) -> None:
    labels = _labels(counts)
    chosen = label_split(labels, fraction, seed)
    assert torch.equal(chosen, chosen.unique())  # sorted, none twice
    for label, count in enumerate(counts):
        members = int((labels[chosen] == label).sum())
        assert members >= 1
        assert abs(members - fraction * count) <= 0.5 + 1e-9 or members == 1


@given(counts=counts_of_classes, seed=st.integers(0, 1000), fractions=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)))
@settings(max_examples=40, deadline=None)
def test_a_larger_fraction_contains_the_smaller(counts: list[int], seed: int, fractions: tuple[float, float]) -> None:
    smaller, larger = (set(label_split(_labels(counts), fraction, seed).tolist()) for fraction in sorted(fractions))
    assert smaller <= larger


def test_all_labels_at_fraction_one_and_none_of_the_unlabelled() -> None:
    labels = torch.tensor([0, -1, 1, 1, -1, 0])
    assert label_split(labels, 1.0, 0).tolist() == [0, 2, 3, 5]


def test_seeds_give_different_splits_and_the_same_seed_the_same() -> None:
    labels = _labels([50, 50])
    assert torch.equal(label_split(labels, 0.1, 3), label_split(labels, 0.1, 3))
    assert not torch.equal(label_split(labels, 0.1, 3), label_split(labels, 0.1, 4))


def test_every_image_is_equally_likely_to_be_labelled() -> None:
    labels = _labels([20, 20])
    hits = torch.zeros(40)
    for seed in range(1000):
        hits[label_split(labels, 0.25, seed)] += 1
    assert (hits - 250).abs().max() < 5 * (1000 * 0.25 * 0.75) ** 0.5


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, float("nan")])
def test_fraction_outside_its_range_is_refused(fraction: float) -> None:
    with pytest.raises(UserError, match=r"label fraction is .*LABELS.FRACTION"):
        label_split(torch.tensor([0, 1]), fraction, 0)


def test_a_class_without_an_image_is_refused() -> None:
    with pytest.raises(UserError, match="class 1 of 3"):
        label_split(torch.tensor([0, 2, 0]), 0.5, 0)
    with pytest.raises(UserError, match="class 2 of 4"):
        label_split(torch.tensor([0, 1]), 0.5, 0, num_classes=4)
    with pytest.raises(UserError, match="class 0 of 1"):
        label_split(torch.tensor([-1, -1]), 0.5, 0)
    with pytest.raises(UserError, match=r"class 1 \('dog'\) of 2"):
        label_split(torch.tensor([0, 0]), 0.5, 0, class_names=("cat", "dog"))


def test_masked_labels_hide_all_but_the_chosen() -> None:
    labels = torch.tensor([3, 1, 2, 0])
    assert masked_labels(labels, torch.tensor([1, 2])).tolist() == [-1, 1, 2, -1]
    assert labels.tolist() == [3, 1, 2, 0]


@pytest.fixture
def images(tmp_path: Path) -> ImageList:
    files = tuple(f"train/{name}/{i}.png" for name in ("cat", "dog") for i in range(10))
    return ImageList(tmp_path, files, torch.arange(20) // 10, ("cat", "dog"))


def test_a_saved_split_is_read_back_and_readable(tmp_path: Path, images: ImageList) -> None:
    indices = label_split(images.labels, 0.2, 7)
    save_split(tmp_path / "split.json", images, indices, fraction=0.2, seed=7)
    assert torch.equal(load_split(tmp_path / "split.json", images), indices)
    content = json.loads((tmp_path / "split.json").read_text())
    assert content["labelled"]["dog"] == [images.files[i] for i in indices.tolist() if i >= 10]
    assert (content["fraction"], content["seed"], content["labelled_images"]) == (0.2, 7, 4)


def _tampered(tmp_path: Path, images: ImageList, change) -> Path:  # type: ignore[no-untyped-def]
    path = tmp_path / "split.json"
    save_split(path, images, torch.tensor([0, 1, 12]))
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
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, images: ImageList, change, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=message):
        load_split(_tampered(tmp_path, images, change), images)


def test_a_split_of_another_data_set_is_refused(tmp_path: Path, images: ImageList) -> None:
    save_split(tmp_path / "split.json", images, torch.tensor([0, 12]))
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
