from __future__ import annotations

from pathlib import Path

import pytest

from clop_det.config.library import config_names, find_config, library
from clop_det.errors import UserError


def test_a_name_a_path_and_the_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own.yaml"
    own.touch()
    assert find_config(str(own)) == str(own)
    assert find_config("compare/digits.yaml") == find_config("configs/compare/digits.yaml")
    assert Path(find_config("compare/digits.yaml")) == library() / "compare" / "digits.yaml"
    zoo = Path(find_config("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"))
    assert "model_zoo" in zoo.parts
    assert zoo.is_file()


def test_an_unknown_name_is_one_error_with_the_nearest() -> None:
    with pytest.raises(UserError, match="no config compare/digit.yaml: .* Did you mean compare/digits.yaml"):
        find_config("compare/digit.yaml")
    with pytest.raises(UserError, match="no config : it is neither"):
        find_config("")


def test_every_shipped_config_is_listed_once() -> None:
    names = config_names()
    assert "pretrain/resnet18_digits.yaml" in names
    assert len(names) == len(set(names)) == len(list(library().rglob("*.yaml")))
