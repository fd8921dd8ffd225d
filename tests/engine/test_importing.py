"""Imports without the garbage collector."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from clop_det.engine.importing import without_collecting


class Knot:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.enable()
    gc.unfreeze()


def test_nothing_is_collected_within_and_what_comes_later_is() -> None:
    with without_collecting():
        assert not gc.isenabled()
        kept = weakref.ref(Knot())
    assert gc.isenabled()
    gc.collect()
    assert kept() is not None  # it counts as one of the objects that stay
    later = weakref.ref(Knot())
    gc.collect()
    assert later() is None


def test_what_commands_leave_behind_is_collected_from_the_second_on() -> None:
    with without_collecting():
        pass
    left = weakref.ref(Knot())
    with without_collecting():
        assert gc.isenabled()
    gc.collect()
    assert left() is None


def test_the_collector_works_again_after_a_failed_import() -> None:
    with pytest.raises(ModuleNotFoundError), without_collecting():
        import there_is_no_such_module  # noqa: F401
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    with without_collecting():
        pass
    assert not gc.isenabled()
