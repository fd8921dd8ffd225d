"""A rank that stands still is named, and ends the group."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path

import pytest

from clop_det.commands.common import run_tool
from clop_det.commands.pretrain import main
from clop_det.engine.heartbeat import Heartbeat, State, _state, _Watched
from clop_det.pretraining.data import BatchSource
from tests.pretraining.conftest import (  # noqa: F401
    _own_cache,
    arguments,
    free_port,
    images_root,
    tiny_options,
)
from tests.processes import CONTEXT

LIMIT = 4.0


def looks(watched: _Watched, now: float, *states: tuple[int, State], exchanges: int | None = None) -> str | None:
    return watched.look(round(now) if exchanges is None else exchanges, list(states), now)


def test_the_rank_that_posts_no_more_is_named() -> None:
    watched = _Watched(LIMIT, None)
    for now in range(10):
        line = looks(watched, now, (now, State(marks=3)), (min(now, 2), State(marks=3, iteration=9)))
        assert (line is not None) == (now > 2 + LIMIT), now
        if line:
            break
    assert line is not None
    assert line.startswith("rank 1 stopped responding since ")
    assert "last seen at iteration 9" in line
    assert watched.standing == [1]


def test_a_probe_has_no_limit_but_a_rank_that_is_silent_in_it_is_named_with_it() -> None:
    heartbeat, watched = Heartbeat(LIMIT), _Watched(LIMIT, None)
    with heartbeat.doing("the probes"):
        probing = heartbeat._state
        assert _state(json.dumps([5, *vars(probing).values()]).encode()) == (5, probing)
        waits = State(probing.marks + 1, True)
        assert all(looks(watched, now, (now, probing), (now, waits)) is None for now in range(50))
        lines = [looks(watched, now, (50, probing), (now, waits)) for now in range(50, 57)]
    assert "rank 0 stopped responding" in str(lines[-1])
    assert "last seen at iteration -1 in the probes (PROCESSES.MAX_STALL)" in str(lines[-1])
    assert heartbeat._state.doing == ""


def test_of_two_ranks_that_wait_the_one_behind_is_named() -> None:
    """Both post; rank 0 has its batch and waits in a collective for rank 1, which reads."""
    watched = _Watched(LIMIT, None)
    lines = [looks(watched, now, (now, State(8, True)), (now, State(7, True))) for now in range(6)]
    assert lines[:5] == [None] * 5
    assert "rank 1 " in str(lines[5])


def test_between_two_steps_there_is_no_limit() -> None:
    watched = _Watched(LIMIT, None)
    assert all(looks(watched, now, (now, State(7, False)), (now, State(8, True))) is None for now in range(50))


def test_slow_steps_lengthen_the_limit() -> None:
    """Steps of 3 seconds under a limit of 4: 12 seconds may pass."""
    watched = _Watched(LIMIT, None)
    for now in range(12):
        assert looks(watched, now, *[(now, State(now // 3, True))] * 2) is None
    assert all(looks(watched, now, *[(now, State(3, True))] * 2) is None for now in range(12, 21))
    assert looks(watched, 22, *[(22, State(3, True))] * 2) is not None


def test_a_store_that_does_not_answer() -> None:
    assert _Watched(LIMIT, None).look(1, [], 0.0) is None
    for host, named in ((None, "torchrun, which keeps"), (0, "rank 0 stopped responding")):
        watched = _Watched(LIMIT, host)
        assert [watched.look(1, [], float(second)) for second in range(int(LIMIT) + 1)] == [None] * (int(LIMIT) + 1)
        assert named in str(watched.look(1, [], LIMIT + 1))


def test_a_watcher_that_stood_itself_begins_again() -> None:
    """A job that was suspended and goes on."""
    watched = _Watched(LIMIT, 0)
    states = [(1, State(1, True)), (1, State(1, True))]
    assert watched.look(1, states, 0.0) is None
    assert watched.look(1, states, 1000.0) is None
    assert watched.look(2, states, 1000.0 + LIMIT / 4) is None


def run_rank(rank: int, port: int, folder: str, argv: list[str]) -> None:
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in variables.items()}, MASTER_ADDR="127.0.0.1")
    batch = BatchSource.__call__

    def standing(self: BatchSource, iteration: int) -> object:
        if iteration == 3 and rank == 1:
            stand(folder)
        return batch(self, iteration)

    BatchSource.__call__ = standing  # type: ignore[method-assign,assignment]
    sys.argv = ["pretrain.py"]
    with (Path(folder) / f"{rank}.txt").open("w") as errors, redirect_stderr(errors):
        run_tool(lambda _: main(argv))


def stand(folder: str) -> None:
    if "stopped" in folder:
        os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(600)  # as a read from a dead disk does


@pytest.mark.parametrize("how", ["stopped", "asleep"])
def test_a_rank_that_stands_ends_the_run(
    how: str,
    tmp_path: Path,
    tiny_options: list[str],  # noqa: F811
    free_port: int,  # noqa: F811
) -> None:
    folder = tmp_path / how
    folder.mkdir()
    argv = arguments(folder / "run", [*tiny_options, "PROCESSES.MAX_STALL", str(LIMIT), "PROBE.ENABLED", "False"])
    ranks = [CONTEXT.Process(target=run_rank, args=(rank, free_port, str(folder), argv)) for rank in range(2)]
    for process in ranks:
        process.start()
    try:
        ranks[0].join(120)
        ranks[1].join(20)
        codes = [process.exitcode for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    told = (folder / "0.txt").read_text()
    assert codes[0] == 1, told
    assert codes[1] in (1, -signal.SIGKILL)  # the second one looks, too, if it can
    line = told.splitlines()[-1]
    assert line.startswith("error: rank 1 stopped responding since ")
    assert "last seen at iteration" in line  # what was posted last
    assert line.endswith("--resume continues from the last checkpoint.")
    assert (folder / "run" / "log.txt").read_text().splitlines()[-1].endswith(line.removeprefix("error: "))
