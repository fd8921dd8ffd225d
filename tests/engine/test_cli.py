from __future__ import annotations

import argparse
import traceback

import pytest
from detectron2.config import CfgNode
from torch.multiprocessing.spawn import ProcessRaisedException

from clop_det.data.decoding import UnreadableImage
from clop_det.engine import cli
from clop_det.engine.options import read_config
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
    monkeypatch.setattr(cli.multiprocessing, "parent_process", lambda: object())
    with pytest.raises(UserError) as caught:
        cli._started_worker(_fails, read_config("", ["MODEL.DEVICE", "cuda"]), argparse.Namespace())
    # What torch makes of it on its way to the parent.
    text = "\n\n-- Process 1 terminated with the following error:\n" + "".join(traceback.format_exception(caught.value))

    def launching(argv: list[str] | None) -> int:
        raise ProcessRaisedException(text, 1, 4321)

    with pytest.raises(SystemExit) as ended:
        cli.run_tool(launching)
    assert ended.value.code == cli.EXIT_BAD_INPUT
    assert capsys.readouterr().err == "error: cannot read a.png: half of it is missing.\n"
