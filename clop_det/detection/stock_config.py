"""The config of a run for stock Detectron2, which knows none of this package's keys."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode, get_cfg

from clop_det.files import write_text

FILE_NAME = "detectron2_config.yaml"


def write_stock_config(cfg: CfgNode) -> Path:
    """Write OUTPUT_DIR/detectron2_config.yaml: Detectron2's own keys as the run has them, with its final weights.

    `get_cfg().merge_from_file(...)` reads it, and `DefaultPredictor` then gives the run's boxes. A ROI head or backbone
    of this package still needs `import clop_det.detection.model` before the model is built.
    """
    stock = get_cfg()
    _take(stock, cfg)
    folder = Path(cfg.OUTPUT_DIR)
    stock.MODEL.WEIGHTS = str((folder / "model_final.pth").absolute())
    write_text(folder / FILE_NAME, stock.dump())
    return folder / FILE_NAME


def _take(stock: CfgNode, cfg: CfgNode) -> None:
    """Set the keys of `stock` to what `cfg` has, in place; not by words, which a CfgNode would evaluate."""
    for key, value in stock.items():
        if isinstance(value, CfgNode):
            _take(value, cfg[key])
        elif key in cfg:
            stock[key] = _quoted(cfg[key])


def _quoted(value: Any) -> Any:
    """A text that a CfgNode would read as a number or another literal ("2024"), in quotes, which it then takes off."""
    try:
        ast.literal_eval(value if isinstance(value, str) else "no literal")
    except (ValueError, SyntaxError):
        return value
    return repr(value)
