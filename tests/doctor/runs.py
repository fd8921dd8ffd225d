"""A run's configuration with one thing changed, and what the doctor finds in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clop_det.config.reading import read_config
from clop_det.doctor import diagnose
from clop_det.doctor.findings import Finding

CONFIG = str(Path(__file__).resolve().parents[2] / "configs" / "detection" / "Base-R_18_FPN.yaml")


def pairs_of(root: Path, weights: Path | str, tmp_path: Path, **keys: Any) -> list[str]:
    register = [
        {"NAME": f"doctor_{split}", "LAYOUT": "coco", "ROOT": str(root), "SPLIT": split} for split in ("train", "val")
    ]
    values = {
        "MODEL.WEIGHTS": str(weights),
        "MODEL.DEVICE": "cpu",
        "OUTPUT_DIR": str(tmp_path / "run"),
        "DATASETS.REGISTER": register,
        "DATASETS.TRAIN": ("doctor_train",),
        "DATASETS.TEST": ("doctor_val",),
        "CLASSIFICATION.ROOT": str(root / "classes"),
        "SOLVER.IMS_PER_BATCH": 4,
        "SOLVER.BASE_LR": 0.005,
        "SOLVER.MAX_ITER": 40000,
        "SOLVER.STEPS": (30000,),
        "MODEL.ROI_BOX_HEAD.FC_DIM": 16,
        "DATALOADER.NUM_WORKERS": 0,  # containers with little shared memory run these tests, too
    } | {key.replace("__", "."): value for key, value in keys.items()}
    return [str(item) for pair in values.items() for item in pair]


def diagnosed(pairs: list[str], processes: int = 1) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in diagnose(read_config(CONFIG, pairs), processes):
        found.setdefault(finding.check, []).append(finding)
    return found


def bad_in(found: dict[str, list[Finding]]) -> dict[str, str]:
    return {check: f.status for check, findings in found.items() for f in findings if f.status != "ok"}
