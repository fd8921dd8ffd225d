"""A probe of one's own: how far the features of a class lie from their mean. Lower is better."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from clop_det.figures import LOWER, Figure
from clop_det.keys import Key
from clop_det.probes.base import Probe, ProbeData, register_probe
from clop_det.probes.measures.geometry import class_means


@register_probe(
    "within_class_spread",
    {"NORMALISE": Key(True, "Whether features are scaled to unit length first, so that networks can be compared.")},
)
class WithinClassSpread(Probe):
    """`within_class_spread`: mean distance of the bank's features to the mean of their class."""

    figures = (Figure("within_class_spread", "within-class spread", 4, "distance", LOWER),)

    def measure(self, data: ProbeData) -> Mapping[str, float]:
        """The figure of the bank."""
        features = F.normalize(data.bank, dim=1) if self.options["NORMALISE"] else data.bank
        means, index = class_means(features, data.bank_labels)
        distances = torch.linalg.vector_norm(features.double() - means[index], dim=1)
        return {"within_class_spread": float(distances.mean())}
