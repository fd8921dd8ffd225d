"""Where the classes of the bank lie: neural collapse, and the frame that the class means form."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from clop_det.figures import Figure
from clop_det.probes.base import Probe, ProbeData, register_probe
from clop_det.probes.measures.geometry import geometry


@register_probe("geometry")
class Geometry(Probe):
    """The figures of `geometry`; none for a single class. Neither way is plainly better for a detector."""

    figures = (
        Figure("nc1", "nc1", 3),
        Figure("orthogonal_frame_gap", "orthogonal frame gap", 3),
        Figure("simplex_etf_gap", "simplex etf gap", 3),
        Figure("within_class_effective_rank", "within class effective rank", 1, "directions"),
    )

    def measure(self, data: ProbeData) -> Mapping[str, float]:
        return geometry(data.bank, data.bank_labels) if len(torch.unique(data.bank_labels)) > 1 else {}
