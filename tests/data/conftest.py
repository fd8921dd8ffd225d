"""A cache folder for the tests of this room, and small sets of the embedded digits in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from clop_det.data.paths import local_path


@pytest.fixture(scope="session")
def _session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(_session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the user's cache."""
    monkeypatch.setenv("CLOP_DET_CACHE", str(_session_cache))


@pytest.fixture
def cluttered(_own_cache: None) -> Path:
    """Folder of 60 + 40 cluttered digits of 24 px."""
    return local_path("digits://cluttered?train=60&val=40&size=24")


@pytest.fixture
def scenes(_own_cache: None) -> Path:
    """Folder of 8 + 5 + 6 digit scenes of 96 px."""
    return local_path("digits://scenes?train=8&val=5&test=6&size=96")
