"""Five seconds of mutated files for each reader; `make fuzz` takes hours."""

from __future__ import annotations

import pytest

from tests.fuzz.campaign import run
from tests.fuzz.targets import PREPARE

SECONDS, SEED = 5.0, 20


# An annotation without `category_id` ends in a KeyError of annotations/coco.py (find_categories).
_KNOWN = {"coco": [pytest.mark.xfail(reason="find_categories of COCO annotations", strict=False)]}


@pytest.mark.parametrize("name", [pytest.param(name, marks=_KNOWN.get(name, [])) for name in PREPARE])
def test_every_mutated_file_ends_as_documented(name: str) -> None:
    count, faults = run(name, SECONDS, SEED, most_faults=1)
    assert count
    assert not faults, faults[0]
