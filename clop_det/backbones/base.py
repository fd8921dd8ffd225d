"""The interface of a family of networks that a detector can carry: everything that the package asks of a network.

A family is one object, registered by `register_backbone`. Pretraining builds its networks, conversion recognises,
renames and proves them, detection and the doctor compare them with a config. None of these rooms knows a family by
name.

A tensor has two names. Its own name is the one that the network's `state_dict` gives it, e.g. `layer1.0.conv1.weight`.
Detectron2's name is the one below `backbone.` or `backbone.bottom_up.` in a detector, e.g. `res2.0.conv1.weight`. The
two must differ, for they tell a converted file from one that is not. By default Detectron2's name is the own name
behind the family's, as in a Detectron2 backbone that keeps the network in an attribute of that name.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from clop_det.backbones.batch_norm import has_trivial_statistics, stir_batch_norm
from clop_det.backbones.detectors import TargetDetector, last_map
from clop_det.backbones.parts import DETECTRON2, OWN, Architecture, Backbone, Network, Root, Setting, Stock
from clop_det.errors import UserError

# Under which keys training scripts and libraries say which network a file holds.
NETWORK_KEYS = frozenset({"arch", "architecture", "model", "model_name", "backbone", "backbone_name", "encoder_name"})


class Family(ABC):
    """A family of networks.

    Attributes:
        name: set by `register_backbone`.
        noun: what one is called in messages, e.g. "residual network".
        layout: whose names the own names are, e.g. "torchvision".
        shown: own names in words, e.g. "conv1 ... layer4"; `shown_detectron2`: Detectron2's, if they are overridden.
        anchor: own name of a tensor that every network of the family has.
        parts: first parts of all own names; what else stands under the same prefix is not backbone.
        detectron2_parts: first parts of all of Detectron2's names, if they are overridden.
        classifier: first part of the classifier's names, which is not carried.
        stem_parts: values of `part` that are the stem.
        builders: values of MODEL.BACKBONE.NAME of the detectors that carry it; () if `carried_by` is overridden.
        norm_key: config key of the normalisation layers; "" where the family has no such key.
        conventions: settings that follow the weights (beside `INPUT_SETTINGS`), with the default of a source.
        architecture_settings: settings that say which network it is; they are checked, never set.
        namings: values of the converter's `--to` that write own names.
        stem_remedy: what to do about a stem that a detector has no place for.
        proof_hint: what errors at some stages and not at others speak for.
        loading_remedy: what to do where the model has another network than the file.
        stirred: what `stir` has given random values, for the report of a proof.
        undecayed: last parts of parameters' names that an optimiser does not decay, beside normalisations and biases.
    """

    name: str
    noun: str
    layout: str
    shown: str
    shown_detectron2: str = ""
    anchor: str
    parts: frozenset[str]
    detectron2_parts: frozenset[str] = frozenset()
    classifier: str = "fc"
    stem_parts: frozenset[str] = frozenset()
    builders: tuple[str, ...] = ()
    norm_key: str = ""
    conventions: tuple[Setting, ...] = ()
    architecture_settings: tuple[Setting, ...] = ()
    namings: tuple[str, ...] = ()
    stem_remedy: str = ""
    proof_hint: str = "Wrong from the first stage on: channel order or normalisation; elsewhere: tensors."
    stirred: str = "stirred BN"
    undecayed: tuple[str, ...] = ()
    loading_remedy: str = "Convert it with clop-det convert, and configure the checkpoint's network."

    # --- networks ---

    @abstractmethod
    def architectures(self) -> list[str]:
        """Names that ENCODER.ARCH takes, for messages; a family with a parametrised form lists it, e.g. `timm:NAME`."""

    @abstractmethod
    def find(self, arch: str) -> Architecture | None:
        """The architecture of that name; None: not of this family."""

    @abstractmethod
    def build(self, arch: str, **options: Any) -> Backbone:
        """A randomly initialised network; UserError for options that it refuses."""

    def options(self, cfg: CfgNode, own: Mapping[str, Any]) -> dict[str, Any]:
        """Options of `build` that the config asks for, by name; `own` are those registered with the family."""
        return dict(own)

    def reference(self, arch: str, **conventions: Any) -> Backbone:
        """The network that a source computes with, for the proof; its weights are given to it afterwards."""
        with torch.random.fork_rng(devices=[]):
            return self.build(arch, **conventions)

    def describe(self, architecture: Architecture) -> dict[str, Any]:
        """The provenance's fields that say which network it is."""
        return {"family": self.name, **architecture.facts}

    def is_fresh(self, state: Mapping[str, Tensor]) -> bool:
        """Whether a part of the network is as it was initialised, so that a proof with these tensors would see less."""
        return has_trivial_statistics(state)

    def stir(self, network: Backbone, generator: torch.Generator) -> None:
        """Give such parts random values, in place; the proof is then repeated with them."""
        stir_batch_norm(network, generator)

    def check_size(self, arch: str, size: int, key: str) -> None:  # noqa: B027  (most networks take any size)
        """Refuse, with UserError, square images of `size` pixels, which `key` sets, if a network cannot take them."""

    # --- tensors ---

    def identify(self, state: Mapping[str, Tensor], hints: Iterable[str] = ()) -> Network:
        """The network whose tensors `state` (own names) holds, all of them; UserError: none, or tensors do not fit.

        `hints` are names that the file or its user gives to the network, for families whose tensors do not say it all.
        """
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        for arch in self.architectures():
            if (found := self.find(arch)) is not None and shapes_of(self, arch) == shapes:
                return Network(found)
        known = ", ".join(self.architectures())
        raise UserError(f"the {len(state)} tensors are not those of a known {self.noun}; known are {known}.")

    def detectron2_name(self, own: str) -> str:
        """Detectron2's name; KeyError: not a tensor that a detector carries (a counter, a classifier, ...)."""
        if own.split(".")[0] not in self.parts or own.endswith(".num_batches_tracked"):
            raise KeyError(own)
        return f"{self.name}.{own}"

    def own_name(self, detectron2: str) -> str:
        """The inverse of `detectron2_name`."""
        own = detectron2.removeprefix(f"{self.name}.")
        if own == detectron2 or not self.is_own_name(own):
            raise KeyError(detectron2)
        return own

    def is_own_name(self, name: str) -> bool:
        """Whether `name` is a tensor that a detector carries."""
        try:
            self.detectron2_name(name)
        except KeyError:
            return False
        return True

    def is_stem(self, own: str) -> bool:
        """Whether the tensor with that own name belongs to the stem."""
        return self.part(self.detectron2_name(own)) in self.stem_parts

    def locate(self, key: str) -> tuple[str, str]:
        """Stage or stem, and Detectron2's name, of a detector's tensor; ("", "") for counters and other parts of it.

        Tensors that only Detectron2's variants of the network have, e.g. of another normalisation, are of the family.
        """
        found = re.search(rf"(?<![^.]){self.name}\.([^.]+)\..+", key)
        return (found[1], found[0]) if found and not key.endswith(".num_batches_tracked") else ("", "")

    def part(self, key: str) -> str:
        """Stage or stem that a detector's tensor belongs to; "" where it is not this family's."""
        return self.locate(key)[0]

    def prepared(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The tensors of a file, joined or reshaped where another library cuts them otherwise; names may be new."""
        return tensors

    def roots(self, tensors: Mapping[str, Tensor]) -> list[Root]:
        """All networks of the family in a file."""
        found = []
        for form, anchor in ((DETECTRON2, self.detectron2_name(self.anchor)), (OWN, self.anchor)):
            for name in tensors:
                if name == anchor or name.endswith(f".{anchor}"):
                    prefix = name.removesuffix(anchor)
                    read = self.read_detectron2 if form == DETECTRON2 else self.read_own
                    layout = form if form == DETECTRON2 else self.layout
                    found.append(Root(self.name, prefix, form, layout, read(tensors, prefix)))
        converted = [root.names.keys() for root in found if root.form == DETECTRON2]
        return [
            root for root in found if root.form != OWN or not any(root.names.keys() <= names for names in converted)
        ]

    def read_own(self, tensors: Mapping[str, Tensor], prefix: str) -> dict[str, str]:
        """Name in the file -> own name, for a network under `prefix` in own names."""
        inner = {name: name[len(prefix) :] for name in tensors if name.startswith(prefix)}
        return {name: own for name, own in inner.items() if own.split(".")[0] in self.parts}

    def read_detectron2(self, tensors: Mapping[str, Tensor], prefix: str) -> dict[str, str]:
        """Name in the file -> own name, for a network under `prefix` in Detectron2's names."""
        inner = {name: name[len(prefix) :] for name in tensors if name.startswith(prefix)}
        return {
            name: self.own_or_same(there)
            for name, there in inner.items()
            if there.split(".")[0] in (self.detectron2_parts or {self.name})
        }

    def own_or_same(self, detectron2: str) -> str:
        """The own name, or the same where there is none."""
        try:
            return self.own_name(detectron2)
        except KeyError:
            return detectron2

    def converted_by_detectron2(self, names: Iterable[str]) -> str:
        """Whose names the tensors have, where Detectron2 converts them by itself as it loads them; "" otherwise."""
        return ""

    def contradiction(self, architecture: Architecture, facts: Mapping[str, Any]) -> str:
        """Completes "the file says " where what a file says of its network is not the one that its tensors show.

        Args:
            architecture: the network by its tensors.
            facts: plain values beside the tensors, by dotted keys, e.g. `args.model`.
        """
        said = [(key, facts[key]) for key in facts if key.rpartition(".")[2] in NETWORK_KEYS]
        others = [f"{key} = {name}" for key, name in said if name in self.architectures() and name != architecture.name]
        return others[0] if others else ""

    def conventions_said(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """The family's own conventions that a file's plain values say: field -> value."""
        return {}

    def stock(self, network: Network, state: Mapping[str, Tensor], **conventions: Any) -> Stock:
        """The network as one of Detectron2's own models, where that has other names than `detectron2_name` gives.

        Raises:
            UserError: there is none.
        """
        raise UserError(
            f"a {self.noun} already has the names of Detectron2's own model, if that has one. Leave --to out."
        )

    # --- detectors ---

    @abstractmethod
    def targets(self, architecture: Architecture) -> tuple[str, ...]:
        """Detectors that a network fits, by name: the targets of its proof."""

    @abstractmethod
    def target_config(self, target: str) -> CfgNode:
        """A Detectron2 config of a target on the CPU with nothing frozen, before it follows any weights."""

    def target_network(self, cfg: CfgNode) -> TargetDetector:
        """The network of a target."""
        return TargetDetector(cfg)

    def proof_size(self, architecture: Architecture) -> tuple[int, int]:
        """Height and width of the images that the proof runs, in pixels."""
        return 160, 192

    def lr_factors(self, detector: nn.Module, cfg: CfgNode) -> dict[str, float]:
        """Parameters of a detector whose learning rate is not that of the others, and by which factor."""
        return {}

    def has_batch_norm(self, cfg: CfgNode) -> bool:
        """Whether the network of a config has batch normalisations, of which `norm_key` speaks."""
        return True

    def carried_by(self, cfg: CfgNode) -> bool:
        """Whether the detector of a config carries a network of this family."""
        return cfg.MODEL.BACKBONE.NAME in self.builders

    def check_detector(self, cfg: CfgNode) -> None:  # noqa: B027  (most families have nothing to refuse)
        """Refuse, with UserError, a detector that would hold a part of the network and something else."""

    def check_other(self, cfg: CfgNode) -> None:  # noqa: B027
        """Refuse, with UserError, a config that names a network of this family for a detector of another family."""

    def check_way_back(self, path: Path, record: Mapping[str, Any]) -> None:  # noqa: B027
        """Refuse, with UserError, a file that under own names would compute something else."""

    def detector_features(self, detector: nn.Module, images: Tensor) -> Tensor:
        """Pooled features (N,D) of the network that a detector carries, for normalised images (N,3,H,W)."""
        return last_map(detector, images).mean(dim=(2, 3))


def shapes_of(family: Family, arch: str) -> dict[str, tuple[int, ...]]:
    """Own names and shapes of the tensors that a detector carries of an architecture; takes no memory."""
    with torch.device("meta"):
        state = family.build(arch).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items() if family.is_own_name(name)}
