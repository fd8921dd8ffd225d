"""What shape the cloud of the bank's features has, without labels: spectrum, intrinsic dimension, Gaussianity."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from clop_det.figures import HIGHER, LOWER, Figure
from clop_det.probes.base import Probe, ProbeData, register_probe
from clop_det.probes.measures.checks import check_features
from clop_det.probes.measures.dimension import idest, two_nn
from clop_det.probes.measures.gaussianity import sigreg_value
from clop_det.probes.measures.spectrum import alpha_req, nesum


@register_probe("shape")
class Shape(Probe):
    """`nesum`, `alpha_req`, `idest`, `two_nn`, `sigreg`; see the functions of these names.

    A bank that is too small for one of them, or whose features have collapsed, has no such figure.
    """

    figures = (
        Figure("nesum", "NESum", 1, "directions", HIGHER),
        Figure("alpha_req", "alpha-ReQ", 2),
        Figure("idest", "IdEst", 1, "dimensions", LOWER),
        Figure("two_nn", "TwoNN", 1, "dimensions"),
        Figure("sigreg", "SIGReg", 2, better=LOWER),
    )

    def measure(self, data: ProbeData) -> Mapping[str, float]:
        measures = {"nesum": nesum, "alpha_req": alpha_req, "idest": idest, "two_nn": two_nn, "sigreg": sigreg_value}
        least = {"idest": 64, "two_nn": 8}
        bank, found = check_features("bank", data.bank), {}
        for name, function in measures.items():
            if len(bank) >= least.get(name, 2):
                with contextlib.suppress(ValueError):  # too few of the rows differ
                    found[name] = function(bank)
        return found
