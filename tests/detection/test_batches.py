from __future__ import annotations

from itertools import islice

import pytest

from clop_det.detection.batches import BatchSchedule, shuffled_forever

WIDE = [i % 3 == 0 for i in range(17)]


def first(schedule: BatchSchedule, count: int, start: int = 0) -> list[tuple[int, list[int]]]:
    return list(islice(schedule.starting_at(start), count))


@pytest.mark.parametrize("grouping", [True, False])
@pytest.mark.parametrize("start", [1, 7, 40])
def test_starting_later_continues_the_same_sequence(grouping: bool, start: int) -> None:
    schedule = BatchSchedule(WIDE, 4, seed=3, grouping=grouping)
    assert first(schedule, 60)[start:] == first(schedule, 60 - start, start)


def test_every_epoch_visits_each_image_once() -> None:
    stream = list(islice(shuffled_forever(17, 5), 51))
    for epoch in range(3):
        assert sorted(stream[17 * epoch : 17 * (epoch + 1)]) == list(range(17))
    assert stream[:17] != stream[17:34]


def test_grouping_keeps_orientations_apart() -> None:
    for _, indices in first(BatchSchedule(WIDE, 4, seed=0, grouping=True), 50):
        assert len({WIDE[i] for i in indices}) == 1


def test_without_grouping_the_stream_is_cut_as_it_comes() -> None:
    batches = first(BatchSchedule(WIDE, 4, seed=9, grouping=False), 10)
    assert [i for _, indices in batches for i in indices] == list(islice(shuffled_forever(17, 9), 40))
    assert [iteration for iteration, _ in batches] == list(range(10))


def test_another_seed_gives_another_order() -> None:
    assert first(BatchSchedule(WIDE, 4, 0, grouping=True), 5) != first(BatchSchedule(WIDE, 4, 1, grouping=True), 5)


def test_no_images_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs images"):
        BatchSchedule([], 4, 0, grouping=True)
