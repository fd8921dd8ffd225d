"""A detection run that has diverged ends with one clear error."""

from __future__ import annotations

from collections.abc import Mapping

from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import Tensor

from clop_det.errors import UserError


def diverged(
    cfg: CfgNode, iteration: int, fault: FloatingPointError, losses: Mapping[str, float | Tensor]
) -> UserError:
    """The error to raise for Detectron2's complaint of losses or boxes that are not finite.

    Args:
        losses: the parts of this process's loss, of the step before if this one did not come so far.
    """
    what = str(fault).splitlines()[0]
    where = f" of process {comm.get_rank()}" if comm.get_world_size() > 1 else ""
    parts = ", ".join(f"{name} {float(value):g}" for name, value in losses.items()) or "none yet"
    return UserError(
        f"iteration {iteration} is not finite ({what} losses{where}: {parts}): the training has diverged. Lower"
        f" SOLVER.BASE_LR (it is {cfg.SOLVER.BASE_LR:g}), lengthen SOLVER.WARMUP_ITERS ({cfg.SOLVER.WARMUP_ITERS}) or"
        " set SOLVER.CLIP_GRADIENTS.ENABLED True, and start anew in another OUTPUT_DIR."
    )
