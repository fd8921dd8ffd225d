"""The example family of networks from outside: pretrained, converted with proof, fine-tuned, refused where it must be.

A process of its own runs it, for what it registers would stay in this one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.processes import run_python

_ROOT = Path(__file__).resolve().parents[2]
_EXAMPLE = _ROOT / "examples" / "my_backbone"
_SHORT = [
    *("SOLVER.MAX_ITER", "2", "SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.PRECISION", "fp32"),
    *("TEST.EVAL_PERIOD", "0", "MODEL.DEVICE", "cpu", "CLASSIFICATION.ROOT", "digits://cluttered?train=80&val=40"),
]
_SCENES = {"LAYOUT": "voc", "ROOT": "digits://scenes?train=4&val=1&test=2"}
_SETS = [{"NAME": f"digit_scenes_{split}", "SPLIT": split, **_SCENES} for split in ("train", "test")]
_RUN = """
import json, sys
from pathlib import Path

import clop_det
import my_backbone

from clop_det.checkpoints.reading import read_provenance
from clop_det.commands import pretrain, train
from clop_det.config.reading import read_config
from clop_det.conversion.convert import convert_checkpoint
from clop_det.conversion.export import export_checkpoint
from clop_det.doctor import diagnose
from clop_det.errors import UserError

example, out, sets, *short = sys.argv[1:]
example, out = Path(example), Path(out)
found = {}
common = [*short, "PROBE.MAX_BANK", "64", "PROBE.MAX_QUERIES", "64", "PROBE.OBJECTS.MAX", "16"]
pretrain.main(["--config-file", f"{example}/pretrain.yaml", "--num-gpus", "0", *common,
               "SOLVER.IMS_PER_BATCH", "16", "OUTPUT_DIR", f"{out}/pretrain"])
report = convert_checkpoint(out / "pretrain/model_final.pth", out / "d2.pth")
found["report"] = {**report.as_dict(), "worst": report.worst_error}
found["record"] = read_provenance(out / "d2.pth")
back = export_checkpoint(out / "d2.pth", out / "back.pth", naming="my_backbone")
found["back"] = {**back.as_dict(), "worst": back.worst_error}
found["again"] = convert_checkpoint(out / "back.pth", out / "again.pth").source

detection = [*common, "DATASETS.REGISTER", sets, "SOLVER.IMS_PER_BATCH", "2", "SOLVER.STEPS", "()"]
detection += ["MODEL.WEIGHTS", f"{out}/d2.pth"]
command = ["--config-file", f"{example}/detection.yaml"]
train.main([*command, "--num-gpus", "0", *detection, "OUTPUT_DIR", f"{out}/detection"])
found["trained"] = read_provenance(out / "detection/model_final.pth")


def refusal(config, *pairs):
    try:
        train.main(["--config-file", config, "--num-gpus", "0", *detection, "OUTPUT_DIR", f"{out}/refused", *pairs])
    except UserError as error:
        return str(error)


found["wrong width"] = refusal(command[1], "MODEL.TINY.WIDTH", "32")
residual = f"{example}/../../configs/detection/digits/faster_rcnn_R_18_FPN_digits.yaml"
found["other family"] = refusal(residual)
cfg = read_config(command[1], [*detection, "OUTPUT_DIR", f"{out}/doctor"])
found["doctor"] = {item.check: [item.status, item.message] for item in diagnose(cfg)}
Path(out, "found.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the whole way from pretraining to detection gave."""
    out = tmp_path_factory.mktemp("my_backbone")
    run = run_python(["-c", _RUN, _EXAMPLE, out, _SETS, *_SHORT], PYTHONPATH=str(_EXAMPLE))
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    content: dict[str, Any] = json.loads((out / "found.json").read_text())
    return content


def test_the_conversion_is_proved_on_the_detectors_own_backbone(found: dict[str, Any]):
    report = found["report"]
    assert (report["source"], report["family"], report["arch"]) == ("clop_det", "tiny", "tiny16")
    assert report["tensors_mapped"] == 5 * 5
    assert set(report["parity"]["FPN"]) == {"stage1", "stage2", "stage3", "stage4"}
    assert report["worst"] < 1e-5
    assert (found["record"]["family"], found["record"]["tiny_width"], found["record"]["loss"]) == ("tiny", 16, "clop")


def test_the_way_back_is_proved_and_recognised(found: dict[str, Any]):
    assert found["back"]["worst"] < 1e-5
    assert found["again"] == "bare"


def test_the_detector_starts_from_the_weights_and_says_of_which_family(found: dict[str, Any]):
    assert (found["trained"]["family"], found["trained"]["tiny_width"]) == ("tiny", 16)
    assert found["trained"]["weights"]["arch"] == "tiny16"


def test_another_width_and_another_family_are_refused(found: dict[str, Any]):
    assert found["wrong width"].startswith("MODEL.TINY.WIDTH is 32")
    assert "Set MODEL.TINY.WIDTH 16" in found["wrong width"]
    assert "builds a residual network" in found["other family"]
    assert "is a tiny network" in found["other family"]


def test_the_doctor_knows_the_family_by_the_same_rules(found: dict[str, Any]):
    assert found["doctor"]["width"] == ["ok", "MODEL.TINY.WIDTH 16, as the weights'"]
    assert found["doctor"]["tensors"] == ["ok", "25 of 25 backbone tensors will load"]
    assert "norm" not in found["doctor"], "the family has no key for it"
