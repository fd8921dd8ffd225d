"""Five seconds of mutated files for each reader; `make fuzz` takes hours."""

from __future__ import annotations

import pytest

from tests.fuzz.campaign import run
from tests.fuzz.targets import PREPARE

SECONDS, SEED = 5.0, 20


@pytest.mark.parametrize("name", PREPARE)
def test_every_mutated_file_ends_as_documented(name: str) -> None:
    count, faults = run(name, SECONDS, SEED, most_faults=1)
    assert count
    assert not faults, faults[0]
