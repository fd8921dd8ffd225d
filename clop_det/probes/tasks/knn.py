"""The kNN probe: accuracy of a vote of the nearest bank images."""

from __future__ import annotations

from collections.abc import Mapping

from clop_det.figures import ACCURACY, HIGHER, Figure
from clop_det.keys import Key, Rule, above, each
from clop_det.probes.base import Probe, ProbeData, register_probe
from clop_det.probes.measures.knn import knn_top1

_WHOLE = Rule("be a whole number of at least 1", lambda value: isinstance(value, int) and value >= 1)


@register_probe(
    "knn",
    {
        "K": Key((20, 200), "Neighbours of the kNN votes; the first is reported as knn_top1.", each(_WHOLE)),
        "TEMPERATURE": Key(0.07, "Temperature of the votes exp(cosine / T).", above(0)),
    },
)
class KNN(Probe):
    """`knn_top1` with the first number of neighbours, `knn<k>_top1` with each further one; see `knn_top1`."""

    figures = (
        Figure("knn_top1", "kNN", 3, "top-1", HIGHER, ACCURACY),
        Figure("knn*_top1", "kNN at *", 3, "top-1", HIGHER),
    )

    @property
    def names(self) -> tuple[str, ...]:
        """By the numbers of neighbours."""
        return ("knn_top1", *dict.fromkeys(f"knn{k}_top1" for k in self.options["K"][1:]))

    def measure(self, data: ProbeData) -> Mapping[str, float]:
        ks, temperature = tuple(self.options["K"]), self.options["TEMPERATURE"]
        found = knn_top1(data.bank, data.bank_labels, data.queries, data.query_labels, ks, temperature)
        return {"knn_top1": found[ks[0]]} | {f"knn{k}_top1": found[k] for k in ks[1:]}
