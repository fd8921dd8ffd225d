"""Detectron2 loads what fits and warns about the rest; for a backbone, "the rest" must be nothing."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from clop_det.errors import UserError

# Tensors of the residual network wherever a detector keeps them: backbone.stem, backbone.bottom_up.res2,
# roi_heads.res5.
# An extra norm behind res5 (roi_heads.res5.norm) is not part of it.
_BACKBONE = re.compile(r"(^|\.)(stem\.conv1|res[2-5]\.\d+)\.(?!.*num_batches_tracked$)")
_REMEDY = (
    "Convert it with tools/convert_checkpoint.py, and set MODEL.RESNETS.DEPTH, RES2_OUT_CHANNELS, WIDTH_PER_GROUP and"
    " NORM to the checkpoint's network."
)
_STEM = re.compile(r"(^|\.)stem\.conv1\.")


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Silence the loader's warnings, where heads are random on purpose."""
    loggers = [logging.getLogger(name) for name in ("fvcore", "detectron2", "LabGym.detectron2", "d2")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def backbone_keys(model: nn.Module) -> list[str]:
    """Names of the residual network's tensors in a Detectron2 model, without counters; empty for other models."""
    return [key for key in model.state_dict() if _BACKBONE.search(key)]


def check_backbone_loaded(model: nn.Module, incompatible: Any, provenance: Mapping[str, Any]) -> None:
    """Raise unless the model's residual network came from the file, whole, and the file's went into the model.

    Args:
        model: Detectron2 model or backbone; a model without residual network passes.
        incompatible: what fvcore's `_load_model` returned.
        provenance: the file's provenance; a stem that the converter was told to leave out may be missing.

    Raises:
        UserError: tensors that the file lacks or has in another shape, or that the model has no place for: a deeper
            network in the file, or another normalisation in the model.
    """
    keys = backbone_keys(model)
    shapes = _both_shapes(incompatible)
    absent = set(incompatible.missing_keys) | set(shapes)
    missing = [key for key in keys if key in absent]
    if provenance.get("stem_reinitialised"):
        missing = [key for key in missing if not _STEM.search(key)]
    if missing:
        examples = [f"{key} ({shapes[key]})" if key in shapes else key for key in missing]
        raise UserError(
            f"the checkpoint gives {len(keys) - len(missing)} of {len(keys)} backbone tensors; missing or of another"
            f" shape: {_some(examples)}. {_REMEDY}"
        )
    # A detector may leave a whole stage out, but not part of one.
    stages = {_stage(key) for key in keys}
    unused = [key for key in incompatible.unexpected_keys if _BACKBONE.search(key) and _stage(key) in stages]
    if unused:
        raise UserError(
            f"the model has no place for {len(unused)} backbone tensors of the checkpoint: {_some(unused)}. {_REMEDY}"
        )


def check_all_loaded(model: nn.Module, incompatible: Any) -> None:
    """Raise unless every parameter of the model came from the file; buffers, which the config may set, do not count.

    Args:
        model: Detectron2 model.
        incompatible: what fvcore's `_load_model` returned.

    Raises:
        UserError: parameters that the file lacks or has in another shape.
    """
    shapes = _both_shapes(incompatible)
    absent = set(incompatible.missing_keys) | set(shapes)
    keys = [key for key, _ in model.named_parameters()]
    missing = [key for key in keys if key in absent]
    if missing:
        examples = [f"{key} ({shapes[key]})" if key in shapes else key for key in missing]
        raise UserError(
            f"the checkpoint gives {len(keys) - len(missing)} of the model's {len(keys)} parameters; missing or of"
            f" another shape: {_some(examples)}. They would be random numbers. Give the weights of a trained model with"
            " this config's heads and classes; those of the run in OUTPUT_DIR by --eval-only --resume."
        )


def _both_shapes(incompatible: Any) -> dict[str, str]:
    return {
        key: f"{tuple(theirs)} in the file, {tuple(ours)} in the model"
        for key, theirs, ours in incompatible.incorrect_shapes
    }


def _stage(key: str) -> str:
    match = _BACKBONE.search(key)
    return match.group(2).split(".")[0] if match else ""


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
