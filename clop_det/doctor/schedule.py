"""Checks of batch size, learning rate and schedule, with the values that scaling them together gives."""

from __future__ import annotations

from collections.abc import Iterator

from clop_det.doctor.findings import OK, WARN, Finding, Situation

# Learning rate an image of the recipes in use: 0.02 at batch 16 (Detectron2's and MoCo's Faster and Mask R-CNN).
REFERENCE_LR, REFERENCE_BATCH = 0.02, 16
_FEW_EPOCHS = 2


def check_schedule(situation: Situation) -> Iterator[Finding]:
    """Learning rate an image, steps, warm-up."""
    if situation.refused & {"ranges", "schedule"}:
        return
    solver = situation.cfg.SOLVER
    if solver.OPTIMIZER == "SGD":  # the recipe's; no rate of another optimiser compares with it
        yield _learning_rate(int(solver.IMS_PER_BATCH), float(solver.BASE_LR), int(solver.MAX_ITER))
    late = [step for step in solver.STEPS if step >= solver.MAX_ITER]
    if late and "MultiStep" in solver.LR_SCHEDULER_NAME:
        yield Finding(
            "steps",
            WARN,
            f"SOLVER.STEPS {tuple(solver.STEPS)}: {late[0]} is not before SOLVER.MAX_ITER {solver.MAX_ITER}, so the"
            " learning rate never falls there",
            f"set SOLVER.STEPS ({int(solver.MAX_ITER * 0.75)}, {int(solver.MAX_ITER * 0.92)})",
        )
    if solver.WARMUP_ITERS >= solver.MAX_ITER:
        yield Finding(
            "warm-up",
            WARN,
            f"SOLVER.WARMUP_ITERS {solver.WARMUP_ITERS} of SOLVER.MAX_ITER {solver.MAX_ITER}: warm-up never ends",
            f"set SOLVER.WARMUP_ITERS {max(1, solver.MAX_ITER // 20)}",
        )


def _learning_rate(batch: int, rate: float, iterations: int) -> Finding:
    expected = REFERENCE_LR * batch / REFERENCE_BATCH
    ratio = rate / expected
    if 0.5 <= ratio <= 2:
        return Finding("learning rate", OK, f"SOLVER.BASE_LR {rate:g} at batch {batch}")
    return Finding(
        "learning rate",
        WARN,
        f"SOLVER.BASE_LR {rate:g} at batch {batch} is {ratio:.2g} times the common recipe's ({REFERENCE_LR} at batch"
        f" {REFERENCE_BATCH})",
        f"set SOLVER.BASE_LR {expected:g}; coming from batch {REFERENCE_BATCH}, multiply MAX_ITER (now {iterations}),"
        f" STEPS and WARMUP_ITERS by {REFERENCE_BATCH / batch:g} as well: the learning rate alone costs AP",
    )


def check_epochs(situation: Situation) -> Iterator[Finding]:
    """How often the run sees each image that it trains on; needs the check of the training images."""
    images = situation.training_images
    if not images or "ranges" in situation.refused:
        return
    solver = situation.cfg.SOLVER
    epochs = solver.MAX_ITER * solver.IMS_PER_BATCH / images
    message = f"{solver.MAX_ITER} iterations of {solver.IMS_PER_BATCH} see {images} images {epochs:.1f} times"
    if epochs >= _FEW_EPOCHS:
        yield Finding("length", OK, message)
    else:
        needed = -(-12 * images // solver.IMS_PER_BATCH)
        yield Finding("length", WARN, message, f"12 passes are SOLVER.MAX_ITER {needed}")
