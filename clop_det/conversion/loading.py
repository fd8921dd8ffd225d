"""Detectron2 loads what fits and warns about the rest; for a backbone, "the rest" must be nothing."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from torch import nn

from clop_det.backbones.base import Family
from clop_det.backbones.registry import families
from clop_det.checkpoints.loading import shape_differences, some_of
from clop_det.checkpoints.saving import SafeCheckpointer
from clop_det.errors import UserError


class DetectorCheckpointer(SafeCheckpointer):
    """The checkpointer of detectors: a file must give the whole network that the detector carries, of any family.

    Attributes:
        absent: names of the tensors that the file loaded last did not give; None: none was loaded.
    """

    absent: Set[str] | None = None

    def check_loaded(self, incompatible: Any, provenance: Mapping[str, Any]) -> None:
        """See `check_backbone_loaded`; with `whole`, every parameter must come from the file."""
        self.absent = {*incompatible.missing_keys, *shape_differences(incompatible)}
        check_backbone_loaded(self.model, incompatible, provenance)
        super().check_loaded(incompatible, provenance)


def backbone_keys(model: nn.Module, family: Family) -> list[str]:
    """Names of a family's tensors in a Detectron2 model, without counters; empty where it carries none."""
    return [key for key in model.state_dict() if family.part(key)]


def check_backbone_loaded(model: nn.Module, incompatible: Any, provenance: Mapping[str, Any]) -> None:
    """Raise unless the network that a model carries came from the file, whole, and the file's went into the model.

    Args:
        model: Detectron2 model or backbone; a model without a network of a registered family passes.
        incompatible: what fvcore's `_load_model` returned.
        provenance: the file's provenance; a stem that the converter was told to leave out may be missing.

    Raises:
        UserError: tensors that the file lacks or has in another shape, or that the model has no place for: a deeper
            network in the file, or another normalisation in the model.
    """
    for family in families():
        _check_family(family, backbone_keys(model, family), incompatible, provenance)


def _check_family(family: Family, keys: list[str], incompatible: Any, provenance: Mapping[str, Any]) -> None:
    shapes = shape_differences(incompatible)
    absent = set(incompatible.missing_keys) | set(shapes)
    missing = [key for key in keys if key in absent]
    if provenance.get("stem_reinitialised"):
        missing = [key for key in missing if family.part(key) not in family.stem_parts]
    if missing:
        examples = [f"{key} ({shapes[key]})" if key in shapes else key for key in missing]
        raise UserError(
            f"the checkpoint gives {len(keys) - len(missing)} of {len(keys)} backbone tensors; missing or of another"
            f" shape: {some_of(examples)}. {family.loading_remedy}"
        )
    # A detector may leave a whole stage out, but not part of one.
    parts = {family.part(key) for key in keys}
    unused = [key for key in incompatible.unexpected_keys if family.part(key) in parts]
    if unused:
        raise UserError(
            f"the model has no place for {len(unused)} backbone tensors of the checkpoint: {some_of(unused)}."
            f" {family.loading_remedy}"
        )
