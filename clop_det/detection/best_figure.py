"""TEST.KEEP_BEST: the figure by which the best checkpoint is chosen must be one that an evaluation gives."""

from __future__ import annotations

import difflib

from detectron2.config import CfgNode

from clop_det.annotations.datasets import class_names
from clop_det.detection.evaluation import main_family
from clop_det.errors import UserError
from clop_det.figures import BOX, CATALOGUE, FAMILIES, PRECISION, PROBE, SIZES
from clop_det.probes.base import BOXES, IMAGES
from clop_det.probes.running import build_tasks, figure_names

_OF_A_CLASS = "/AP-"


def check_best(cfg: CfgNode) -> None:
    """Refuse a figure that no evaluation under `cfg` gives. Whether a class of "AP-<class>" exists is not looked at.

    Raises:
        UserError: gives the nearest name, and those of AP and of the probes.
    """
    best = str(cfg.TEST.KEEP_BEST)
    given = evaluation_names(cfg)
    known = {*given, *_of_one_set(cfg)}
    if not best or best in known or f"{best.partition(_OF_A_CLASS)[0]}/AP" in known:
        return
    near = difflib.get_close_matches(best, given, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]}?" if near else ""
    shown = [name for name in given if f"{PROBE}/" in name or name.endswith(f"{BOX}/AP")]
    raise UserError(f"TEST.KEEP_BEST is {best!r}, which no evaluation gives here.{hint} Others are {', '.join(shown)}.")


def settle_best(cfg: CfgNode) -> list[str]:
    """Complete TEST.KEEP_BEST in place with the first test set's name where there are several; data sets registered.

    Returns:
        lines for the log.

    Raises:
        UserError: see `check_best`; a test set whose AP nobody can name, or a class or sizes that it does not have.
    """
    check_best(cfg)
    families = {name: main_family(name) for name in cfg.DATASETS.TEST}
    best = str(cfg.TEST.KEEP_BEST)
    if not best:
        return []
    several = len(families) > 1
    lines = []
    if several and (best in _of_one_set(cfg) or f"{best.partition(_OF_A_CLASS)[0]}/AP" in _of_one_set(cfg)):
        cfg.TEST.KEEP_BEST = f"{cfg.DATASETS.TEST[0]}/{best}"
        lines = [f"TEST.KEEP_BEST {best} -> {cfg.TEST.KEEP_BEST}: of {len(families)} test sets the first"]
    full = str(cfg.TEST.KEEP_BEST)
    test_set = full.split("/")[0] if several and full.split("/")[0] in families else cfg.DATASETS.TEST[0]
    name = full.rsplit("/", 1)[-1]
    if _OF_A_CLASS in full and full.split(_OF_A_CLASS, 1)[1] not in class_names(test_set):
        raise UserError(
            f"TEST.KEEP_BEST is {best!r}; the classes of {test_set} are {', '.join(class_names(test_set))}."
        )
    if f"/{BOX}/" in f"/{full}" and families[test_set].startswith("voc") and name in CATALOGUE.names(SIZES):
        raise UserError(
            f"TEST.KEEP_BEST is {best!r}, but {test_set} is scored by Pascal VOC's rule, which has no sizes."
            f" Name coco/{name}."
        )
    return lines


def evaluation_names(cfg: CfgNode) -> list[str]:
    """Names of the figures that an evaluation under `cfg` may give, those of single classes aside."""
    sets = [f"{name}/" for name in cfg.DATASETS.TEST] if len(cfg.DATASETS.TEST) > 1 else [""]
    names = [start + name for start in sets for name in _of_one_set(cfg)]
    if cfg.CLASSIFICATION.ROOT:
        names += [f"{PROBE}/{name}" for name in figure_names(build_tasks(cfg), [IMAGES])]
    return names


def _of_one_set(cfg: CfgNode) -> list[str]:
    """Names of the figures of a test set, as they are where there is one."""
    names = []
    for family in (BOX, *FAMILIES):
        groups = (PRECISION,) if family.startswith("voc") else (PRECISION, SIZES)
        if family != "segm" or cfg.MODEL.MASK_ON:
            names += [f"{family}/{name}" for name in CATALOGUE.names(*groups)]
    return names + [f"{PROBE}/{name}" for name in figure_names(build_tasks(cfg), [BOXES])]
