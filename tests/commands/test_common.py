from __future__ import annotations

import argparse
import traceback

import pytest
import torch
from detectron2.config import CfgNode
from torch.multiprocessing.spawn import ProcessRaisedException

from clop_det.commands import common as cli
from clop_det.commands.common import argument_parser
from clop_det.config.reading import read_config
from clop_det.data.decoding import UnreadableImage
from clop_det.engine import launching
from clop_det.engine.launching import expected_world_size
from clop_det.errors import UserError


def _fails(cfg: CfgNode, args: argparse.Namespace) -> None:
    try:
        raise UserError("the cause")
    except UserError as error:
        raise UnreadableImage("cannot read a.png: half of it is missing.") from error


def test_a_user_error_of_any_kind_in_a_worker_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["pretrain.py"])
    monkeypatch.setattr(launching.multiprocessing, "parent_process", lambda: object())
    with pytest.raises(UserError) as caught:
        launching._started_worker(_fails, read_config("", ["MODEL.DEVICE", "cuda"]), argparse.Namespace())
    # What torch makes of it on its way to the parent.
    text = "\n\n-- Process 1 terminated with the following error:\n" + "".join(traceback.format_exception(caught.value))

    def failing(argv: list[str] | None) -> int:
        raise ProcessRaisedException(text, 1, 4321)

    with pytest.raises(SystemExit) as ended:
        cli.run_tool(failing)
    assert ended.value.code == cli.EXIT_BAD_INPUT
    assert capsys.readouterr().err == "error: cannot read a.png: half of it is missing.\n"


def world_size(device: str, *words: str) -> int:
    return expected_world_size(argument_parser("a tool").parse_args(words), device)


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
