"""Fine-tuning on a GPU: whole runs of two detectors in each precision, with evaluation and probes."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

from clop_det.commands.train import main
from clop_det.engine.metrics import read_metrics
from tests.detection.conftest import entries
from tests.detection.runs import command

pytestmark = pytest.mark.gpu

PRECISIONS = {
    "fp32": {"SOLVER__PRECISION": "fp32"},
    "bf16": {"SOLVER__PRECISION": "bf16"},
    "fp16": {"SOLVER__PRECISION": "auto", "SOLVER__AMP__ENABLED": "True"},
    "deterministic": {"SOLVER__PRECISION": "fp32", "DETERMINISTIC": "True"},
}


@pytest.fixture(scope="module")
def masks_root(shapes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images with every box as a mask."""
    root = tmp_path_factory.mktemp("masks") / "root"
    shutil.copytree(shapes_root, root)
    for path in (root / "annotations").glob("*.json"):
        content = json.loads(path.read_text())
        for entry in content["annotations"]:
            x, y, width, height = entry["bbox"]
            entry["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
        path.write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("mask", [False, True], ids=["Faster R-CNN", "Mask R-CNN"])
@pytest.mark.parametrize("precision", sorted(PRECISIONS))
def test_runs_end_with_finite_losses(
    precision: str, mask: bool, tmp_path: Path, tiny_options: list[str], masks_root: Path
) -> None:
    changes: dict[str, object] = {"MODEL__DEVICE": "cuda", **PRECISIONS[precision]}
    if mask:
        changes |= {"MODEL__MASK_ON": "True", "MODEL__ROI_MASK_HEAD__CONV_DIM": 16}
        changes |= {"DATASETS__REGISTER": entries(masks_root, "coco", "masks")}
        changes |= {"DATASETS__TRAIN": "('masks_coco_train',)", "DATASETS__TEST": "('masks_coco_test',)"}
    assert main(command(tiny_options, tmp_path / "run", **changes)) == 0
    lines = read_metrics(tmp_path / "run")
    assert all(math.isfinite(line["total_loss"]) for line in lines if "total_loss" in line)
    assert any(key.startswith("probe/") for line in lines for key in line)
