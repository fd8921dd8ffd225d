"""RankMe of the bank's features: how many directions they use."""

from __future__ import annotations

from collections.abc import Mapping

from clop_det.figures import HIGHER, RANK, Figure
from clop_det.probes.base import Probe, ProbeData, register_probe
from clop_det.probes.measures.spectrum import rankme


@register_probe("rankme")
class RankMe(Probe):
    """`rankme`; see the function of that name."""

    figures = (Figure("rankme", "RankMe", 1, "directions", HIGHER, RANK),)

    def measure(self, data: ProbeData) -> Mapping[str, float]:
        return {"rankme": rankme(data.bank)}
