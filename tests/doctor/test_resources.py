"""What a run needs around it, looked at alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from clop_det.config.reading import read_config
from clop_det.doctor import resources
from clop_det.doctor.findings import Situation

CONFIG = str(Path(__file__).resolve().parents[2] / "configs" / "detection" / "Base-R_18_FPN.yaml")


@pytest.mark.parametrize(("free", "workers", "status"), [(10**6, 4, "warn"), (10**12, 4, "ok"), (10**6, 0, "")])
def test_shared_memory(free: int, workers: int, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "shared_memory_free", lambda: free)
    options = ["DATALOADER.NUM_WORKERS", str(workers), "SOLVER.IMS_PER_BATCH", "8"]
    size = ["INPUT.MIN_SIZE_TRAIN", "(500,)", "INPUT.MAX_SIZE_TRAIN", "1000"]
    found = list(resources.check_shared_memory(Situation(read_config(CONFIG, [*options, *size]))))
    assert [finding.status for finding in found] == [status][: bool(status)]
    if status == "warn":
        # Two batches of 8 images of 500 x 1000 pixels from each of four workers: 96 MB.
        assert "0.0 GB free in /dev/shm, up to 0.1 GB needed by 4 workers a process" in found[0].message
        assert "--shm-size 1g" in found[0].remedy
