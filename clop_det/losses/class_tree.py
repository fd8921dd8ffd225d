"""Prototypes of related classes: their cosines follow a tree of the classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from clop_det.losses.prototypes import orthonormal_prototypes


def tree_similarity(tree: Sequence[Any], num_classes: int, relatedness: float = 0.5) -> Tensor:
    """Cosines that a tree asks for: 1 of a class with itself, else relatedness * (depth of the least common group) / D.

    The whole tree has depth 0, a group in it depth 1, ...; D is the depth of the deepest group. Classes that share the
    whole tree alone are orthogonal, those of one deepest group have the cosine `relatedness`.

    Args:
        tree: nested lists of class numbers, each class once: [[0, 1], [2, [3, 4]]].
        num_classes: K.
        relatedness: from 0 to below 1.

    Returns:
        (K, K) float64, positive definite.

    Raises:
        ValueError: a tree that does not hold every class once, or a relatedness out of range.
    """
    if not 0 <= relatedness < 1:
        raise ValueError(f"relatedness={relatedness}: must be at least 0 and below 1")
    classes = list(_classes(tree))
    whole = all(type(number) is int for number in classes)
    if not whole or sorted(classes) != list(range(num_classes)):
        raise ValueError(f"class_tree={list(tree)}: must hold each class number from 0 to {num_classes - 1} once")
    groups = list(_groups(tree))
    deepest = max((depth for depth, _ in groups), default=1)
    similarity = torch.zeros(num_classes, num_classes, dtype=torch.float64)
    for _, members in groups:
        places = torch.tensor(members, dtype=torch.int64)  # of an empty group, too
        similarity[places[:, None], places] += relatedness / deepest
    similarity.fill_diagonal_(1)
    return similarity


def class_tree_prototypes(
    tree: Sequence[Any], num_classes: int, dim: int, seed: int = 0, relatedness: float = 0.5
) -> Tensor:
    """(K, d) float32 unit prototypes with the cosines of `tree_similarity`, turned at random by the seed.

    A tree without groups gives `orthonormal_prototypes` of the same seed.

    Raises:
        ValueError: as `tree_similarity`, or more classes than dimensions.
    """
    frame = orthonormal_prototypes(num_classes, dim, seed)
    factor = torch.linalg.cholesky(tree_similarity(tree, num_classes, relatedness))
    rows: Tensor = factor @ frame.double()
    return rows.float()


def _classes(tree: Any) -> Iterator[Any]:
    for branch in tree:
        yield from _classes(branch) if isinstance(branch, list | tuple) else (branch,)


def _groups(tree: Any, depth: int = 1) -> Iterator[tuple[int, list[Any]]]:
    """Depth and classes of every group below the whole tree."""
    for branch in tree:
        if isinstance(branch, list | tuple):
            yield depth, list(_classes(branch))
            yield from _groups(branch, depth + 1)
