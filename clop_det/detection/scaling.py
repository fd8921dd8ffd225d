"""Fitting a schedule and its norm layers to the processes at hand."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer

from clop_det.errors import UserError

_SCALED = (
    "SOLVER.IMS_PER_BATCH",
    "SOLVER.BASE_LR",
    "SOLVER.MAX_ITER",
    "SOLVER.STEPS",
    "SOLVER.WARMUP_ITERS",
    "SOLVER.CHECKPOINT_PERIOD",
    "TEST.EVAL_PERIOD",
)


def fit_to_processes(cfg: CfgNode, processes: int) -> list[str]:
    """Scale the schedule to `processes` and replace norms that need several, in place.

    With SOLVER.REFERENCE_WORLD_SIZE > 0, batch, learning rate, iterations, steps, warm-up and periods change together,
    so that the images seen and the learning rate an image stay what they were; scaling some of them alone is another
    recipe. SyncBN, in whichever part of the model, becomes BN where there is one process or no GPU.

    Returns:
        lines that say what changed, before and after.

    Raises:
        UserError: the reference batch cannot be divided so.
    """
    notes = []
    processes = max(1, processes)  # Detectron2 starts one for --num-gpus 0
    reference = cfg.SOLVER.REFERENCE_WORLD_SIZE
    if reference > 0 and reference != processes:
        if cfg.SOLVER.IMS_PER_BATCH % reference:
            raise UserError(
                f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}, which SOLVER.REFERENCE_WORLD_SIZE {reference}"
                " does not divide; nothing can be scaled."
            )
        before = _values(cfg)
        scaled = DefaultTrainer.auto_scale_workers(cfg, processes)
        cfg.SOLVER, cfg.TEST = scaled.SOLVER.clone(), scaled.TEST.clone()
        cfg.defrost()
        after = _values(cfg)
        changes = ", ".join(f"{key} {before[key]} -> {after[key]}" for key in _SCALED if before[key] != after[key])
        notes.append(f"schedule of {reference} processes scaled to {processes}: {changes}")
    return notes + _replace_norms(cfg, processes)


def scaled_steps(cfg: CfgNode, processes: int) -> int:
    """SOLVER.MAX_ITER as it will be once `fit_to_processes` has scaled the schedule; `cfg` is left as it is.

    Raises:
        UserError: see `fit_to_processes`.
    """
    own = cfg.clone()
    own.defrost()
    fit_to_processes(own, processes)
    return int(own.SOLVER.MAX_ITER)


def _values(cfg: CfgNode) -> dict[str, object]:
    return {key: cfg[key.split(".")[0]][key.split(".")[1]] for key in _SCALED}


def _replace_norms(cfg: CfgNode, processes: int) -> list[str]:
    if processes > 1 and cfg.MODEL.DEVICE.startswith("cuda"):
        return []
    notes = []
    where = f"{processes} {'process' if processes == 1 else 'processes'} on {cfg.MODEL.DEVICE}"
    for name, node in cfg.MODEL.items():
        norm = node.get("NORM") if isinstance(node, CfgNode) else None
        if norm == "SyncBN":
            node.NORM = "BN"
            notes.append(f"MODEL.{name}.NORM: SyncBN -> BN ({where})")
        elif norm == "naiveSyncBN" and processes == 1:
            # It handles one process by itself (and works over gloo), so the name may stay.
            notes.append(f"MODEL.{name}.NORM: naiveSyncBN computes what BN does ({where})")
    return notes
