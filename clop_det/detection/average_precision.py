"""The figures that an evaluation of a detector gives, by every rule: what they are called and how they are written."""

from __future__ import annotations

from clop_det.figures import CATALOGUE, CLASSES, HIGHER, PRECISION, SIZES, Figure

CATALOGUE.register(
    [
        Figure("AP", "AP", 1, "%", HIGHER, PRECISION),
        Figure("AP50", "AP50", 1, "%", HIGHER, PRECISION),
        Figure("AP75", "AP75", 1, "%", HIGHER, PRECISION),
        Figure("APs", "APs", 1, "%", HIGHER, SIZES),
        Figure("APm", "APm", 1, "%", HIGHER, SIZES),
        Figure("APl", "APl", 1, "%", HIGHER, SIZES),
        Figure("AP-*", "AP-*", 1, "%", HIGHER, CLASSES),
    ],
    __name__,
)
