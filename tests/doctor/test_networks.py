"""What the doctor says of networks of timm: healthy ones, and weights of another network than the detector's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clop_det.conversion.convert import convert_checkpoint
from tests.conversion.timm_samples import random_timm, saved
from tests.doctor.runs import bad_in, diagnosed, pairs_of

CONVNEXT, VIT = "timm:test_convnext", "timm:test_vit:img_size=64:patch_size=8"
LEVELS = ["p2", "p3", "p4", "p5"]


def keys_of(arch: str, **keys: Any) -> dict[str, Any]:
    """A detector of that network, for `pairs_of`."""
    kind = "sfp" if "vit" in arch else "fpn"
    found = {
        "MODEL__BACKBONE__NAME": f"build_timm_{kind}_backbone",
        "MODEL__TIMM__ARCH": arch,
        "SOLVER__PRECISION": "fp32",
    }
    found |= {"MODEL__FPN__IN_FEATURES": [], "MODEL__RPN__IN_FEATURES": LEVELS, "MODEL__ROI_HEADS__IN_FEATURES": LEVELS}
    return {**found, "MODEL__ANCHOR_GENERATOR__SIZES": [[16], [32], [64], [128]], "MODEL__FPN__NORM": "LN", **keys}


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Architecture -> weights."""
    folder, found = tmp_path_factory.mktemp("timm"), {}
    for arch, options in ((CONVNEXT, {}), (VIT, {"img_size": 64, "patch_size": 8})):
        name = arch.split(":")[1]
        found[arch] = folder / f"{name}_d2.pth"
        convert_checkpoint(saved(random_timm(name, **options), folder / f"{name}.pth"), found[arch])
    return found


@pytest.mark.parametrize(("arch", "count"), [(CONVNEXT, 99), (VIT, 78)])
def test_a_healthy_run(arch: str, count: int, converted: dict[str, Path], root: Path, tmp_path: Path) -> None:
    found = diagnosed(pairs_of(root, converted[arch], tmp_path, **keys_of(arch)))
    assert bad_in(found) == {}
    assert found["tensors"][0].message == f"{count} of {count} backbone tensors will load"
    assert arch in found["weights"][0].message
    assert "norm" not in found  # a warning about batches of few images would be about nothing


@pytest.mark.parametrize(
    ("arch", "weights", "keys", "check", "words"),
    [
        ("timm:test_vit", VIT, {}, "architecture", f"set MODEL.TIMM.ARCH {VIT}"),
        (CONVNEXT, VIT, {}, "architecture", f"set MODEL.TIMM.ARCH {VIT}"),
        (CONVNEXT, "", {"MODEL__TIMM__ARCH": "timm:test_convnxt"}, "backbone", "Did you mean test_convnext"),
        (VIT, "", {"MODEL__BACKBONE__NAME": "build_timm_fpn_backbone"}, "backbone", "build_timm_sfp_backbone"),
        (VIT, "", {"MODEL__BACKBONE__NAME": "build_resnet_fpn_backbone"}, "backbone", "builds another network"),
        (VIT, "", {"PROBE__OBJECTS__SIZE": 60}, "backbone", "PROBE.OBJECTS.SIZE to a multiple of 8"),
    ],
)
def test_what_does_not_fit_is_an_error(
    arch: str,
    weights: str,
    keys: dict[str, Any],
    check: str,
    words: str,
    converted: dict[str, Path],
    root: Path,
    tmp_path: Path,
) -> None:
    found = diagnosed(pairs_of(root, converted.get(weights, ""), tmp_path, **keys_of(arch, **keys)))
    errors = [f"{finding.message} {finding.remedy}" for finding in found[check] if finding.status == "error"]
    assert any(words in error for error in errors)
