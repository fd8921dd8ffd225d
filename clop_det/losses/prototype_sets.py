"""All sets of prototypes by name; the values of the option PROTOTYPES."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from clop_det.losses.frames import low_coherence_frame
from clop_det.losses.prototypes import orthonormal_prototypes, random_unit, simplex_etf

PROTOTYPE_SETS: dict[str, Callable[[int, int, int], Tensor]] = {
    "orthonormal": orthonormal_prototypes,
    "simplex_etf": simplex_etf,
    "random_unit": random_unit,
    "learned": random_unit,  # where training starts from
    "low_coherence_frame": low_coherence_frame,
}


def build_prototypes(kind: str, num_classes: int, dim: int, seed: int = 0, directions: int = 1) -> Tensor:
    """A set of prototypes by name.

    Args:
        kind: a name of `PROTOTYPE_SETS`.
        num_classes: K.
        dim: d.
        seed: of these prototypes alone, at least 0.
        directions: m per class; above 1 for "orthonormal" alone.

    Returns:
        (K, d) float32, or (K, m, d) if directions > 1.

    Raises:
        ValueError: unknown kind, directions above 1 with another kind than "orthonormal", or what the set refuses.
    """
    if kind not in PROTOTYPE_SETS:
        raise ValueError(f"prototypes={kind!r}: must be one of {', '.join(PROTOTYPE_SETS)}")
    if directions < 1:
        raise ValueError(f"directions={directions}: must be at least 1")
    if directions == 1:
        return PROTOTYPE_SETS[kind](num_classes, dim, seed)
    if kind != "orthonormal":
        raise ValueError(f"directions={directions}: more than one per class is defined for 'orthonormal', not {kind!r}")
    return orthonormal_prototypes(num_classes, dim, seed, directions)
