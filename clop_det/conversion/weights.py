"""What is known of a file that a detector is to load, found once for training and for the doctor."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from clop_det.backbones.base import Family
from clop_det.backbones.parts import DETECTRON2, Network
from clop_det.backbones.registry import BACKBONES, converted_by_detectron2, family_of_weights
from clop_det.checkpoints.reading import read_checkpoint
from clop_det.conversion.contents import Contents, flatten
from clop_det.conversion.conventions import conventions_known
from clop_det.conversion.sources import Recognition, find_roots, recognise
from clop_det.errors import UserError


@dataclass
class Weights:
    """A file that MODEL.WEIGHTS names.

    Attributes:
        path: the file.
        contents: its tensors.
        provenance: what it says of itself, with the fields of the architecture that its tensors show.
        family: the family of its network; None where nothing is recognised, and with names of `others`.
        others: whose names it has, where Detectron2 converts them by itself as it loads them ("Caffe2"); else "".
        converted: whether it is in Detectron2's naming.
        source: what it was recognised as, where it is not; None: nothing that is known.
        network: its network; None where it could not be told.
        unknown: why it, or the source, could not be told.
    """

    path: Path
    contents: Contents
    provenance: dict[str, Any] = field(default_factory=dict)
    family: Family | None = None
    others: str = ""
    converted: bool = False
    source: Recognition | None = None
    network: Network | None = None
    unknown: str = ""

    @property
    def without_stem(self) -> bool:
        """Whether the converter was told to leave the stem out."""
        return bool(self.provenance.get("stem_reinitialised"))

    @property
    def first_tensor(self) -> str:
        """Name of the first tensor in the file, for messages."""
        return next(iter(self.contents.tensors))

    @property
    def says_conventions(self) -> bool:
        """Whether it says how its images were fed and what else a detector follows."""
        return conventions_known(self.provenance)


def read_weights(path: Path) -> Weights:
    """Read a file and find out what can be known of it.

    Raises:
        UserError: unreadable, of a family that is not registered, or its provenance contradicts its tensors.
    """
    contents = flatten(read_checkpoint(path), path)
    try:
        family_of_weights(contents.provenance)
    except UserError as error:
        raise UserError(f"MODEL.WEIGHTS {path}: {error}") from error
    others = converted_by_detectron2(contents.tensors)
    if others:
        return Weights(path, contents, others=others)
    found = Weights(path, contents, dict(contents.provenance))
    roots = [root for root in find_roots(contents.tensors) if root.form == DETECTRON2]
    if roots:
        found.converted, found.family = True, BACKBONES[roots[0].family]
        inner = {own: contents.tensors[name] for name, own in roots[0].names.items()}
        state = {own: tensor for own, tensor in inner.items() if found.family.is_own_name(own)}
    else:
        try:
            found.source = recognise(contents)
        except UserError as error:
            found.unknown = str(error)
            return found
        found.family, state = BACKBONES[found.source.family], found.source.state
    found.provenance.setdefault("family", found.family.name)
    if not found.without_stem:
        _identify(found, found.family, state)
    return found


def _identify(found: Weights, family: Family, state: dict[str, Tensor]) -> None:
    try:
        found.network = family.identify(state)
    except UserError as error:  # another normalisation, deformable convolutions: fine, but not ours to judge
        found.unknown = str(error)
        return
    actual = family.describe(found.network.architecture)
    for name, value in actual.items():
        if found.converted and found.provenance.get(name, value) != value:
            raise UserError(
                f"MODEL.WEIGHTS {found.path} says {name} = {found.provenance[name]} of itself, but its tensors are"
                f" those of {name} = {value}; the file was changed after it was converted. Convert its source again."
            )
    found.provenance.update(actual)
