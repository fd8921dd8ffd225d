from __future__ import annotations

from types import SimpleNamespace

import pytest

from clop_det.engine import stop
from clop_det.engine.stop import StopRequested, StopSignal


@pytest.mark.parametrize(
    ("seconds", "asked", "stops_at"),
    [(0.01, [0, 10, 20], 20), (0.4, [0, 2, 4, 6, 8, 10, 12], 12), (30.0, list(range(12)), 11)],
)
def test_ranks_ask_each_other_about_once_a_second_and_leave_together(
    seconds: float, asked: list[int], stops_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other rank is told to stop at iteration 11; this one, twice as quick, saves and leaves when it asks next."""
    trainer, clock, questions, saved = SimpleNamespace(iter=0), [0.0], [], []

    def all_gather(mine: tuple[bool, float]) -> list[tuple[bool, float]]:
        questions.append(trainer.iter)
        return [mine, (trainer.iter >= 11, 2 * mine[1])]

    monkeypatch.setattr(stop.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(stop.comm, "all_gather", all_gather)
    monkeypatch.setattr(stop.comm, "synchronize", lambda: None)
    monkeypatch.setattr(stop.time, "monotonic", lambda: clock[0])
    signals = StopSignal(lambda: saved.append(trainer.iter))
    signals.trainer = trainer
    signals.before_train()
    with pytest.raises(StopRequested):
        for trainer.iter in range(40):
            clock[0] += seconds / 2
            signals.after_step()
    assert questions == asked
    assert saved == [stops_at]
