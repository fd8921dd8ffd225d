"""timm's networks as backbones: the module is timm's own; it only answers for one interface more."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from clop_det.backbones.parts import Backbone
from clop_det.backbones.timm_networks.architectures import TimmArchitecture, create, facts_of


class TimmBackbone(Backbone):
    """What a network of timm becomes: called, it gives the pooled features that timm's `num_classes=0` gives.

    Attributes:
        architecture: which network.
    """

    architecture: TimmArchitecture

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        return self.some_maps(images, list(self.map_shapes))

    def some_maps(self, images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Images (N,3,H,W), normalised -> the named maps; no block runs behind the last of them."""
        return self._some(images, names, intermediates_only=True, stop_early=True)[1]

    def quieten(self) -> None:
        from timm.layers import DropPath

        for module in self.modules():
            if isinstance(module, DropPath):
                module.drop_prob = 0.0

    def features_and_maps(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        network: Any = self
        last, maps = self._some(images, list(self.map_shapes))
        return network.forward_head(last), maps

    def _some(self, images: Tensor, names: Sequence[str], **how: bool) -> tuple[Any, dict[str, Tensor]]:
        """What `forward_intermediates` gives beside the maps (None: nothing), and the named maps."""
        indices = {name: facts_of(self.architecture).maps[name][0] for name in names}
        network: Any = self
        wanted = sorted(set(indices.values()))
        found = network.forward_intermediates(images, indices=wanted, **how)
        last, found = (None, found) if how else found
        by_index = dict(zip(wanted, found, strict=True))
        return last, {name: by_index[index] for name, index in indices.items()}


def build_network(architecture: TimmArchitecture, drop_path: float = 0.0) -> TimmBackbone:
    """A randomly initialised network; tensors are named as timm names them.

    Raises:
        UserError: see `create` and `facts_of`.
    """
    facts = facts_of(architecture)
    network: Any = create(architecture, drop_path)
    made: Any = type(network)
    network.__class__ = _as_backbone(made)
    network.architecture = architecture
    network.feature_dim = facts.feature_dim
    network.map_shapes = {name: stage for name, (_, stage) in facts.maps.items()}
    backbone: TimmBackbone = network
    return backbone


@functools.cache
def _as_backbone(made: Any) -> type[nn.Module]:
    return type(made.__name__, (TimmBackbone, made), {})
