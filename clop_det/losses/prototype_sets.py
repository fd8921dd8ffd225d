"""All sets of prototypes by name; the values of the option PROTOTYPES."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from clop_det.keys import Key, at_least, between, one_of
from clop_det.losses.class_tree import class_tree_prototypes
from clop_det.losses.frames import low_coherence_frame
from clop_det.losses.prototypes import orthonormal_prototypes, random_unit, simplex_etf

PROTOTYPE_SETS: dict[str, Callable[[int, int, int], Tensor]] = {
    "orthonormal": orthonormal_prototypes,
    "simplex_etf": simplex_etf,
    "random_unit": random_unit,
    "learned": random_unit,  # where training starts from
    "low_coherence_frame": low_coherence_frame,
}


CLASS_TREE = "class_tree"
KINDS = (*PROTOTYPE_SETS, CLASS_TREE)
# Of the losses that hold one direction a class; those that can train it have a longer list of sets.
PROTOTYPE_OPTIONS: Mapping[str, Key] = {
    "PROTOTYPES": Key(
        "orthonormal",
        "Set of prototypes, as LOSS.CLOP.PROTOTYPES.",
        one_of(*(name for name in KINDS if name != "learned")),
    ),
    "PROTOTYPE_SEED": Key(0, "Seed of the prototypes alone.", at_least(0)),
    "CLASS_TREE": Key(
        [],
        "Groups of related classes for the set class_tree: nested lists of class numbers, e.g. [[0, 1], [2, [3, 4]]].",
    ),
    "RELATEDNESS": Key(0.5, "Cosine of two classes of one deepest group of the tree.", between(0, 1, "[)")),
}


def prototypes_of(options: Mapping[str, Any], num_classes: int, dim: int) -> Tensor:
    """The set that the options `PROTOTYPE_OPTIONS`, and DIRECTIONS where there is one, say."""
    return build_prototypes(
        options["PROTOTYPES"],
        num_classes,
        dim,
        options["PROTOTYPE_SEED"],
        options.get("DIRECTIONS", 1),
        options["CLASS_TREE"],
        options["RELATEDNESS"],
    )


def build_prototypes(
    kind: str,
    num_classes: int,
    dim: int,
    seed: int = 0,
    directions: int = 1,
    class_tree: Sequence[Any] = (),
    relatedness: float = 0.5,
) -> Tensor:
    """A set of prototypes by name.

    Args:
        kind: a name of `KINDS`.
        num_classes: K.
        dim: d.
        seed: of these prototypes alone, at least 0.
        directions: m per class; above 1 for "orthonormal" alone.
        class_tree: of "class_tree"; see `tree_similarity`.
        relatedness: the same.

    Returns:
        (K, d) float32, or (K, m, d) if directions > 1.

    Raises:
        ValueError: unknown kind, directions above 1 with another kind than "orthonormal", or what the set refuses.
    """
    if kind not in KINDS:
        raise ValueError(f"prototypes={kind!r}: must be one of {', '.join(KINDS)}")
    if directions < 1:
        raise ValueError(f"directions={directions}: must be at least 1")
    if directions == 1 and kind == CLASS_TREE:
        return class_tree_prototypes(class_tree, num_classes, dim, seed, relatedness)
    if directions == 1:
        return PROTOTYPE_SETS[kind](num_classes, dim, seed)
    if kind != "orthonormal":
        raise ValueError(f"directions={directions}: more than one per class is defined for 'orthonormal', not {kind!r}")
    return orthonormal_prototypes(num_classes, dim, seed, directions)
