"""The linear probe: accuracy of a logistic regression on frozen features."""

from __future__ import annotations

from collections.abc import Mapping

from clop_det.figures import ACCURACY, HIGHER, SETTING, Figure
from clop_det.probes.base import Probe, ProbeData, register_probe
from clop_det.probes.measures.linear import linear_probe


@register_probe("linear")
class Linear(Probe):
    """`linear_top1`, and `linear_l2`, the penalty that was chosen; see `linear_probe`."""

    figures = (
        Figure("linear_top1", "linear", 3, "top-1", HIGHER, ACCURACY),
        Figure("linear_l2", "penalty of the linear probe", 3, group=SETTING),
    )

    def measure(self, data: ProbeData) -> Mapping[str, float]:
        return linear_probe(data.bank, data.bank_labels, data.queries, data.query_labels)
