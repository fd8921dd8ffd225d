"""TEST.KEEP_BEST: the figure by which the best checkpoint is chosen must be one that an evaluation gives."""

from __future__ import annotations

import difflib

from detectron2.config import CfgNode

from clop_det.errors import UserError
from clop_det.figures import BOX, CATALOGUE, FAMILIES, PRECISION, PROBE, SIZES
from clop_det.probes.base import BOXES, IMAGES
from clop_det.probes.running import build_tasks, figure_names


def check_best(cfg: CfgNode) -> None:
    """Refuse a figure that no evaluation under `cfg` gives. Whether a class of "AP-<class>" exists is not looked at.

    Raises:
        UserError: gives the nearest name, and those of AP and of the probes.
    """
    best = str(cfg.TEST.KEEP_BEST)
    given = evaluation_names(cfg)
    if not best or best in given or f"{best.partition('/AP-')[0]}/AP" in given:
        return
    near = difflib.get_close_matches(best, given, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]}?" if near else ""
    shown = [name for name in given if f"{PROBE}/" in name or name.endswith(f"{BOX}/AP")]
    raise UserError(f"TEST.KEEP_BEST is {best!r}, which no evaluation gives here.{hint} Others are {', '.join(shown)}.")


def evaluation_names(cfg: CfgNode) -> list[str]:
    """Names of the figures that an evaluation under `cfg` may give, those of single classes aside."""
    sets = [f"{name}/" for name in cfg.DATASETS.TEST] if len(cfg.DATASETS.TEST) > 1 else [""]
    names = []
    for family in (BOX, *FAMILIES):
        groups = (PRECISION,) if family.startswith("voc") else (PRECISION, SIZES)
        if family != "segm" or cfg.MODEL.MASK_ON:
            names += [f"{start}{family}/{name}" for start in sets for name in CATALOGUE.names(*groups)]
    tasks = build_tasks(cfg)
    if cfg.CLASSIFICATION.ROOT:
        names += [f"{PROBE}/{name}" for name in figure_names(tasks, [IMAGES])]
    return names + [f"{start}{PROBE}/{name}" for start in sets for name in figure_names(tasks, [BOXES])]
