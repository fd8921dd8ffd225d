"""Whether the projector's outputs for the bank have collapsed."""

from __future__ import annotations

from collections.abc import Mapping

from clop_det.figures import COLLAPSE, HIGHER, Figure
from clop_det.probes.base import EMBEDDINGS, Probe, ProbeData, register_probe
from clop_det.probes.measures.embeddings import embedding_figures


@register_probe("embeddings")
class Embeddings(Probe):
    """The figures of `embedding_figures`; training batches have figures of the same names."""

    needs = EMBEDDINGS
    figures = (
        Figure("embedding_mean_norm", "length of the mean embedding", 3, group=COLLAPSE),
        Figure("embedding_rankme", "RankMe of embeddings", 1, "directions", HIGHER, COLLAPSE),
        Figure("embedding_length", "embedding length", 1),
    )

    def measure(self, data: ProbeData) -> Mapping[str, float]:
        assert data.embeddings is not None  # what this probe needs
        return embedding_figures(data.embeddings)
