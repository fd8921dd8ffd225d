"""How well the bank's features separate its classes, without queries: LogME, the shrunk H-score, TransRate."""

from __future__ import annotations

from collections.abc import Mapping

from clop_det.figures import HIGHER, Figure
from clop_det.probes.base import Probe, ProbeData, register_probe
from clop_det.probes.measures.evidence import logme
from clop_det.probes.measures.separability import h_score, scaled, transrate


@register_probe("separation")
class Separation(Probe):
    """`logme`, `h_score`, `transrate`; see the functions of these names. Features are scaled alike first."""

    figures = (
        Figure("logme", "LogME", 3, better=HIGHER),
        Figure("h_score", "shrunk H-score", 2, better=HIGHER),
        Figure("transrate", "TransRate", 1, better=HIGHER),
    )

    def measure(self, data: ProbeData) -> Mapping[str, float]:
        bank, labels = scaled(data.bank), data.bank_labels
        measures = {"logme": logme, "h_score": h_score, "transrate": transrate}
        return {name: function(bank, labels) for name, function in measures.items()}
