from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
import torch
from torch.multiprocessing.spawn import ProcessExitedException

from clop_det.commands import common as cli
from clop_det.commands.common import argument_parser, launch_of
from clop_det.data.decoding import UnreadableImage
from clop_det.engine.launching import expected_world_size
from clop_det.errors import UserError


def test_a_user_error_of_any_kind_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["pretrain.py"])

    def failing(argv: list[str] | None) -> int:
        try:
            raise UserError("the cause")
        except UserError as error:
            raise UnreadableImage("cannot read a.png: half of it is missing.") from error

    assert ended(failing, capsys) == (cli.EXIT_BAD_INPUT, "error: cannot read a.png: half of it is missing.\n")


def test_a_started_process_that_died_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def failing(argv: list[str] | None) -> int:
        raise ProcessExitedException("process 1 terminated with signal SIGKILL", 1, 4321, -9)

    line = "error: process 1 terminated with signal SIGKILL. --resume continues from the last checkpoint.\n"
    assert ended(failing, capsys) == (1, line)


def test_too_many_open_files_is_one_line_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    def failing(argv: list[str] | None) -> int:
        raise OSError(errno.EMFILE, "Too many open files", "a.png")

    code, line = ended(failing, capsys)
    assert code == cli.EXIT_BAD_INPUT
    assert line.count("\n") == 1
    assert "ulimit -n" in line


def ended(main: Callable[[list[str] | None], int], capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    with pytest.raises(SystemExit) as left:
        cli.run_tool(main)
    return left.value.code, capsys.readouterr().err


def world_size(device: str, *words: str) -> int:
    return expected_world_size(launch_of(argument_parser("pretrain", "a tool").parse_args(words)), device)


def test_processes_before_they_meet() -> None:
    assert world_size("cpu") == world_size("cpu", "--num-gpus", "0") == 1
    assert world_size("cuda", "--num-machines", "3") == 3


def test_cpu_processes_are_refused_where_launch_would_take_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    several = ("--num-gpus", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert world_size("cpu", *several) == 2  # over gloo
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert world_size("cuda", *several) == 2
    assert world_size("cpu") == 1
    with pytest.raises(UserError, match="2 processes with MODEL.DEVICE cpu .*torchrun"):
        world_size("cpu", *several)
    with pytest.raises(UserError, match="MODEL.DEVICE cpu"):
        world_size("cpu", "--num-machines", "2")
    with pytest.raises(UserError, match="this machine has 2"):
        world_size("cuda", "--num-gpus", "3")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert world_size("cpu") == 4  # torchrun's processes meet over gloo
