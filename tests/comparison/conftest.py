"""A comparison to run, and one that has run and been reported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clop_det.comparison.results.summary import Comparison, read_comparison
from tests.comparison.workplace import Workplace


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    place = Workplace(tmp_path)
    monkeypatch.setenv("FAKE_JOBS", str(place.control))
    return place


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A comparison of four initialisations, two label fractions and three seeds that has run and been reported."""
    place = Workplace(tmp_path_factory.mktemp("finished"))
    place.write(
        {
            "NAME": "Stand-ins <compared>",
            "INITS": ["random", {"NAME": "info_nce", "USES_LABELS": False}, "supcon", "clop"],
            "LABEL_FRACTIONS": [0.1, 0.5],
            "SEEDS": [0, 1, 2],
        }
    )
    previous = os.environ.get("FAKE_JOBS")
    os.environ["FAKE_JOBS"] = str(place.control)
    try:
        assert place.run("--jobs", "4", rendered=True) == 0
    finally:
        if previous is None:
            del os.environ["FAKE_JOBS"]
        else:
            os.environ["FAKE_JOBS"] = previous
    return place


@pytest.fixture(scope="module")
def comparison(finished: Workplace) -> Comparison:
    return read_comparison([finished.output])
