"""What a job's identity counts of a data set: what is read of it, and not how its entry or its place is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clop_det.annotations.content import dataset_digest
from clop_det.annotations.datasets import forget
from clop_det.config.reading import read_config
from clop_det.digests import Digests
from tests.detection.spoiled import VOC, spoiled, swap

pytestmark = pytest.mark.usefixtures("cache_folder")
Entry = dict[str, Any]


@pytest.fixture
def sets(tmp_path: Path) -> Iterator[list[Entry]]:
    """A training set of cats and dogs, and a test set of dogs."""
    spoiled(tmp_path / "cats_dogs", VOC, lambda d: None)
    dogs = [("dog", 20, 5, 30, 20), ("dog", 3, 4, 12, 13)]
    spoiled(tmp_path / "dogs", VOC, lambda d: swap(d, boxes=dogs))
    first = tmp_path / "dogs" / "Annotations" / "a.xml"
    first.write_text(first.read_text().replace("cat", "dog"))
    names = ("cats_dogs", "dogs")
    yield [{"NAME": name, "LAYOUT": "voc", "ROOT": str(tmp_path / name), "SPLIT": "train"} for name in names]
    for name in names:
        forget(name)


def known(sets: list[Entry], train: str, digests: Digests) -> str:
    options = ["DATASETS.REGISTER", str(sets), "DATASETS.TRAIN", f"('{train}',)", "DATASETS.TEST", "('dogs',)"]
    found = dataset_digest("dogs", read_config("", options), digests)
    assert not digests.problems
    return found


def test_a_set_that_takes_the_classes_of_the_first_is_another(sets: list[Entry]) -> None:
    digests = Digests()
    lent, own = (known(sets, train, digests) for train in ("cats_dogs", "dogs"))
    assert lent != own
    assert [known(sets, train, Digests()) for train in ("dogs", "cats_dogs")] == [own, lent]


def test_the_order_of_entries_and_of_their_keys_does_not_count(sets: list[Entry]) -> None:
    turned = [dict(reversed(entry.items())) for entry in reversed(sets)]
    assert known(turned, "cats_dogs", Digests()) == known(sets, "cats_dogs", Digests())
