"""The figure by which the best checkpoint is kept, settled before the run: one that the evaluations will give."""

from __future__ import annotations

from detectron2.config import CfgNode

from clop_det.annotations.datasets import class_names
from clop_det.detection.evaluation import main_family, split_figure
from clop_det.errors import UserError

_METRICS = ("AP", "AP50", "AP75")
_SIZES = ("APs", "APm", "APl")


def resolve_keep_best(cfg: CfgNode) -> list[str]:
    """Check TEST.KEEP_BEST, and complete it in place with the first test set's name where there are several.

    Returns:
        lines for the log.

    Raises:
        UserError: no evaluation of this run gives such a figure.
    """
    for name in cfg.DATASETS.TEST:
        main_family(name)  # refused here, if it is none
    wanted = cfg.TEST.KEEP_BEST
    if not wanted:
        return []
    try:
        data_set, family, metric = split_figure(wanted)
    except ValueError:
        raise UserError(
            f"TEST.KEEP_BEST is {wanted!r}; it must be a figure such as bbox/AP, coco/AP50 or voc07/AP."
        ) from None
    several = len(cfg.DATASETS.TEST) > 1
    if data_set not in (cfg.DATASETS.TEST if several else ()) and data_set:
        some = f"with several test sets one of {', '.join(cfg.DATASETS.TEST)}" if several else "none with one test set"
        raise UserError(f"TEST.KEEP_BEST is {wanted!r}: the test set's name before the figure must be {some}.")
    chosen = data_set or cfg.DATASETS.TEST[0]
    _check_metric(cfg, wanted, family, metric, chosen)
    if not several or data_set:
        return []
    cfg.TEST.KEEP_BEST = f"{chosen}/{wanted}"
    return [f"TEST.KEEP_BEST {wanted} -> {cfg.TEST.KEEP_BEST}: of {len(cfg.DATASETS.TEST)} test sets the first"]


def _check_metric(cfg: CfgNode, wanted: str, family: str, metric: str, test_set: str) -> None:
    """Refuse what can never be among the figures; the probes' names are theirs to know."""
    if family == "probe":
        return
    if family == "segm" and not cfg.MODEL.MASK_ON:
        raise UserError(f"TEST.KEEP_BEST is {wanted!r}, but MODEL.MASK_ON is False: there is no mask AP.")
    kind = main_family(test_set) if family == "bbox" else family
    known = [*_METRICS, *(_SIZES if kind in ("coco", "segm") else ()), *(f"AP-{c}" for c in class_names(test_set))]
    if metric not in known:
        raise UserError(f"TEST.KEEP_BEST is {wanted!r}; {family} gives {', '.join(known[:20])}.")
