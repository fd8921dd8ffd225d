"""A process of a group that fails leaves at once, whatever the others wait for, and says why in its last line."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from torch import distributed
from torch.multiprocessing.spawn import ProcessExitedException

from clop_det.commands.common import run_tool
from clop_det.config.reading import read_config
from clop_det.engine import launching
from clop_det.engine.launching import launch_workers
from clop_det.engine.leaving import EXIT_STOPPED, StopRequested, code_of
from clop_det.errors import UserError
from tests.processes import run_all

ALONE = argparse.Namespace(num_gpus=1, num_machines=1, machine_rank=0, dist_url="auto", traceback=False)
TWO = argparse.Namespace(**{**vars(ALONE), "num_gpus": 2})
MEET = 60.0  # seconds that a group may need to end


def one_fails(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Rank 1 finds bad input while rank 0 waits for it in a collective."""
    if distributed.get_rank() == 1:
        time.sleep(0.5)
        raise UserError("image 7 cannot be read. Restore it.")
    distributed.all_reduce(torch.ones(3))


def of_torchrun(rank: int, port: int, folder: str) -> None:
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in variables.items()}, MASTER_ADDR="127.0.0.1")
    sys.argv = ["tool"]
    cfg = read_config("", ["MODEL.DEVICE", "cpu"])
    with (Path(folder) / f"{rank}.txt").open("w") as errors, redirect_stderr(errors):
        run_tool(lambda _: launch_workers(one_fails, cfg, ALONE) or 0)


def test_a_rank_that_fails_does_not_hang_one_in_a_collective(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    codes = run_all(of_torchrun, [(rank, port, str(tmp_path)) for rank in range(2)], seconds=MEET)
    assert codes == [1, 2]
    waiting, failed = ((tmp_path / f"{rank}.txt").read_text().splitlines() for rank in range(2))
    assert failed == ["error: rank 1: image 7 cannot be read. Restore it."]
    assert waiting[-1].startswith("error: rank 0: the connection to another rank is lost (")


@pytest.mark.skipif(torch.cuda.is_available(), reason="starts GPU processes here")
def test_bad_input_of_a_started_process_is_raised_where_it_was_started() -> None:
    with pytest.raises(UserError, match=r"^image 7 cannot be read\. Restore it\.$"):
        launch_workers(one_fails, read_config("", ["MODEL.DEVICE", "cpu"]), TWO)


@pytest.mark.parametrize(
    ("code", "raised"), [(EXIT_STOPPED, StopRequested), (1, ProcessExitedException), (-9, ProcessExitedException)]
)
def test_how_a_started_process_ended_is_told(
    code: int, raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def launch(*arguments: object, **named: object) -> None:
        raise ProcessExitedException("process 1 ended", 1, 4321, code)

    monkeypatch.setattr(launching, "launch", launch)
    with pytest.raises(raised):
        launch_workers(one_fails, read_config("", []), TWO)


def test_codes_and_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(StopRequested()) == (EXIT_STOPPED, "")
    assert code_of(SystemExit("no")) == (1, "")
    assert code_of(SystemExit(4)) == (4, "")
    assert code_of(SystemExit()) == (0, "")
    assert code_of(UserError("a. Do b.")) == (2, "a. Do b.")
    assert capsys.readouterr().err == ""
    assert code_of(ZeroDivisionError("why\nand more")) == (1, "ZeroDivisionError: why")
    assert "ZeroDivisionError: why" in capsys.readouterr().err
    assert code_of(UserError("a"), show_traceback=True) == (2, "a")
    assert "UserError: a" in capsys.readouterr().err
