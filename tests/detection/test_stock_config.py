"""The config for stock Detectron2: values as they are, whatever their text looks like."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from detectron2.config import CfgNode, get_cfg

from clop_det.config.files import flatten
from clop_det.detection.stock_config import FILE_NAME, write_stock_config


@pytest.mark.parametrize("name", ["2024", "1e3", "None", "true", "(1, 2)", "no such word", "{a}"])
def test_values_that_read_like_others_stay_text(
    tiny_cfg: CfgNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_cfg.OUTPUT_DIR = name
    tiny_cfg.MODEL.RPN.HEAD_NAME = name
    tiny_cfg.DATASETS.TRAIN = (name, "other")
    (tmp_path / name).mkdir()
    assert write_stock_config(tiny_cfg) == Path(name) / FILE_NAME
    found = get_cfg()
    found.merge_from_file(str(Path(name) / FILE_NAME))
    assert [found.OUTPUT_DIR, found.MODEL.RPN.HEAD_NAME, *found.DATASETS.TRAIN] == [name, name, name, "other"]


def test_it_has_detectron2s_keys_with_the_values_of_the_run_and_no_others(tiny_cfg: CfgNode, tmp_path: Path) -> None:
    tiny_cfg.OUTPUT_DIR = str(tmp_path)
    stock = get_cfg()
    stock.merge_from_file(str(write_stock_config(tiny_cfg)))
    ours, found = dict(flatten(tiny_cfg)), dict(flatten(stock))
    assert found.keys() == dict(flatten(get_cfg())).keys()
    assert found.pop("MODEL.WEIGHTS") == str(tmp_path / "model_final.pth")
    # As JSON, which knows no tuples: a YAML file has them as lists.
    assert {key: value for key, value in found.items() if json.dumps(value) != json.dumps(ours[key])} == {}
