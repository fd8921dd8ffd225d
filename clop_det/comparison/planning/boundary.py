"""No test image among those that a pretraining learns from: checked for every row before anything runs.

A fine-tuning compares its test sets with the images that its own config names. The pretraining below it may read
others, which only the comparison knows.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from detectron2.config import CfgNode

from clop_det.annotations.overlap import check_pretraining_overlap
from clop_det.comparison.planning.plan import Plan
from clop_det.data.content import address_of
from clop_det.data.layouts.registry import layout_options
from clop_det.digests import digest

_IMAGES = ("LAYOUT", "ROOT", "UNLABELLED_ROOT", "TRAIN_SPLIT", "EVAL_SPLIT")


def check_boundary(plan: Plan, names: Collection[str]) -> dict[str, Any]:
    """Compare the test sets of every fine-tuning in `names` with the images of its pretraining.

    Images that are generated (digits://) cannot be among others. Prints of images are kept, so a second check is quick.

    Returns:
        {"images": {what was compared: how many}, "given": [initialisations whose training images nobody names here]}.

    Raises:
        UserError: a test image is among them; both paths are named.
    """
    images: dict[str, int] = {}
    done: set[str] = set()
    for cell in plan.cells:
        below, above = plan.jobs.get(cell.pretrain), plan.jobs.get(cell.detect)
        if below is None or above is None or above.name not in names or not (below.config and above.config):
            continue
        tests = above.config.DATASETS
        key = digest([_read(below.config), list(tests.TEST), list(tests.OVERLAP_ALLOWED), list(tests.REGISTER)])
        if key not in done and not _generated(below.config):
            images |= check_pretraining_overlap(below.config, above.config)
        done.add(key)
    given = [init.name for init in plan.matrix.inits if init.checkpoints or init.starts]
    return {"images": images, "given": given}


def _read(cfg: CfgNode) -> dict[str, Any]:
    return {**{key: cfg.CLASSIFICATION[key] for key in _IMAGES}, "options": layout_options(cfg.CLASSIFICATION)}


def _generated(cfg: CfgNode) -> bool:
    roots = [cfg.CLASSIFICATION.ROOT, cfg.CLASSIFICATION.UNLABELLED_ROOT]
    return all(address_of(root) is not None for root in roots if root)
