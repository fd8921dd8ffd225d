"""What Detectron2's loader only warns about, as an error, and as silence where heads are random on purpose."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from clop_det.errors import UserError


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


def check_all_loaded(model: nn.Module, incompatible: Any) -> None:
    """Raise unless every parameter of the model came from the file; buffers, which the config may set, do not count.

    Args:
        model: Detectron2 model.
        incompatible: what fvcore's `_load_model` returned.

    Raises:
        UserError: parameters that the file lacks or has in another shape.
    """
    shapes = shape_differences(incompatible)
    absent = set(incompatible.missing_keys) | set(shapes)
    keys = [key for key, _ in model.named_parameters()]
    missing = [key for key in keys if key in absent]
    if missing:
        examples = [f"{key} ({shapes[key]})" if key in shapes else key for key in missing]
        raise UserError(
            f"the checkpoint gives {len(keys) - len(missing)} of the model's {len(keys)} parameters; missing or of"
            f" another shape: {some_of(examples)}. They would be random numbers. Give the weights of a trained model"
            " with this config's heads and classes; those of the run in OUTPUT_DIR by --eval-only --resume."
        )


def shape_differences(incompatible: Any) -> dict[str, str]:
    """Name -> both shapes, in words, of tensors whose shape in the file is not the model's."""
    return {
        key: f"{tuple(theirs)} in the file, {tuple(ours)} in the model"
        for key, theirs, ours in incompatible.incorrect_shapes
    }


def some_of(names: list[str]) -> str:
    """The first three names, for messages."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
