from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_config_alone_makes_the_roi_heads_of_this_package_known_to_detectron2() -> None:
    script = """
        import clop_det
        from detectron2.config import get_cfg
        from detectron2.modeling import build_model
        from clop_det.config import add_clop_config
        cfg = get_cfg()
        add_clop_config(cfg)
        cfg.MODEL.DEVICE, cfg.MODEL.ROI_HEADS.NAME = "cpu", "Res5ROIHeadsExtraNorm"
        print(type(build_model(cfg).roi_heads).__name__)
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "Res5ROIHeadsExtraNorm", done.stderr
