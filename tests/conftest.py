"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import clop_det  # noqa: F401  (makes `import detectron2` work before any test module asks for it)
from clop_det.config.build import register_built_in

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with real images beside the checkout; the test is skipped where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip("needs the folder of real images ../shared/data beside the checkout")
    return REAL_DATA


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need a GPU say so where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session", autouse=True)
def _built_in() -> None:
    """A test that puts the registries back as they were must not put back what it was the first to import."""
    register_built_in()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
