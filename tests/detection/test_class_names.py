"""Class names belong to weights: followed by name in an evaluation, refused where they are others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode

from clop_det.commands.train import main
from clop_det.detection.class_names import class_order, classes_of_weights, compare_class_names
from clop_det.errors import UserError
from clop_det.files import read_json
from tests.detection.conftest import CLASSES, entries
from tests.detection.runs import command


def test_the_order_is_found_by_name() -> None:
    assert class_order(("a", "b"), ("a", "b"), "w", "t") is None
    assert class_order(("a", "b", "c"), ("c", "a", "b"), "w", "t") == [1, 2, 0]
    with pytest.raises(UserError, match="w was trained on the classes a, b, but t has a, c"):
        class_order(("a", "b"), ("a", "c"), "w", "t")


def test_weights_that_say_nothing_are_not_compared(tiny_cfg: CfgNode, tmp_path: Path) -> None:
    torch.save({"model": {}, "provenance": {"classes": ["x"]}}, tmp_path / "w.pth")
    for weights in ("", "https://somewhere/w.pth", str(tmp_path / "w.pth")):
        assert classes_of_weights(weights) == ()
        tiny_cfg.MODEL.WEIGHTS = weights
        assert compare_class_names(tiny_cfg, train=False) == []


def _reordered(root: Path, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    return [{**entry, "CLASSES": list(classes)} for entry in entries(root, "voc", "".join(c[0] for c in classes))]


def test_an_evaluation_follows_the_names_and_refuses_others(
    tiny_options: list[str], finished: Path, shapes_root: Path, tmp_path: Path
) -> None:
    weights = finished / "model_final.pth"
    assert classes_of_weights(str(weights)) == CLASSES
    expected = {k: v for k, v in read_json(finished / "results.json")["metrics"].items() if "probe" not in k}
    other = tuple(reversed(CLASSES))
    sets = _reordered(shapes_root, other)
    changes = {"DATASETS__REGISTER": sets, "DATASETS__TRAIN": (sets[0]["NAME"],), "DATASETS__TEST": (sets[1]["NAME"],)}
    options = [*tiny_options, "PROBE.ENABLED", "False", "MODEL.WEIGHTS", str(weights)]
    assert main(command(options, tmp_path / "run", "--eval-only", **changes)) == 0
    found = read_json(tmp_path / "run" / "evaluation.json")["metrics"]
    assert found == pytest.approx(expected)
    assert "detections are matched by class name" in (tmp_path / "run" / "log.txt").read_text()
    content = torch.load(weights, weights_only=True)
    content["provenance"]["detection_classes"] = ["cat", "dog", "emu"]
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match="was trained on the classes cat, dog, emu, but .* has triangle, square, disc"):
        main(command([*options[:-1], str(tmp_path / "w.pth")], tmp_path / "other", "--eval-only", **changes))
    assert not (tmp_path / "other").exists()


def test_a_training_from_a_detector_of_other_classes_is_told(tiny_cfg: CfgNode, finished: Path) -> None:
    tiny_cfg.MODEL.WEIGHTS = str(finished / "model_final.pth")
    assert compare_class_names(tiny_cfg, train=True) == []
    content = torch.load(finished / "model_final.pth", weights_only=True)
    content["provenance"]["detection_classes"] = list(reversed(CLASSES))
    weights = Path(tiny_cfg.OUTPUT_DIR).with_suffix(".pth")
    torch.save(content, weights)
    tiny_cfg.MODEL.WEIGHTS = str(weights)
    (line,) = compare_class_names(tiny_cfg, train=True)
    assert "triangle, square, disc, shapes_voc_train has disc, square, triangle" in line
