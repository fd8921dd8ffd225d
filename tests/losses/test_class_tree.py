"""Prototypes whose cosines follow a tree of the classes."""

from __future__ import annotations

import pytest
import torch

from clop_det.losses import build_loss, orthonormal_prototypes
from clop_det.losses.class_tree import class_tree_prototypes, tree_similarity
from tests.losses.helpers import some_labels, two_views

TREE = [[0, 1], [2, [3, 4]], 5]


def test_cosines_by_hand() -> None:
    expected = torch.eye(6, dtype=torch.float64)
    for first, second, cosine in ((0, 1, 0.3), (2, 3, 0.3), (2, 4, 0.3), (3, 4, 0.6)):
        expected[first, second] = expected[second, first] = cosine
    torch.testing.assert_close(tree_similarity(TREE, 6, 0.6), expected)


@pytest.mark.parametrize("relatedness", [0.0, 0.5, 0.99])
def test_the_prototypes_have_these_cosines_in_any_number_of_dimensions(relatedness: float) -> None:
    for dim in (6, 20):
        rows = class_tree_prototypes(TREE, 6, dim, seed=3, relatedness=relatedness)
        assert (rows.shape, rows.dtype) == ((6, dim), torch.float32)
        torch.testing.assert_close((rows @ rows.t()).double(), tree_similarity(TREE, 6, relatedness), atol=1e-5, rtol=0)
    assert not torch.equal(rows, class_tree_prototypes(TREE, 6, 20, seed=4, relatedness=relatedness))


def test_a_tree_without_groups_is_clop_s_own_set() -> None:
    flat = class_tree_prototypes([2, 0, 1], 3, 8, seed=1)
    torch.testing.assert_close(flat, orthonormal_prototypes(3, 8, seed=1))


@pytest.mark.parametrize("name", ["clop", "prototype_softmax", "tsc"])
def test_losses_take_it_by_their_options(name: str) -> None:
    options = {name: {"PROTOTYPES": "class_tree", "CLASS_TREE": TREE, "RELATEDNESS": 0.4}}
    loss = build_loss(name, options, 6, 8)
    held = loss.pull.prototypes if name == "clop" else loss.prototypes
    torch.testing.assert_close(held, class_tree_prototypes(TREE, 6, 8, relatedness=0.4))
    assert torch.isfinite(loss(two_views(9, 8, torch.float32), some_labels(9, 6)))


@pytest.mark.parametrize(
    ("tree", "relatedness", "message"),
    [
        ([[0, 1], [1, 2]], 0.5, r"class_tree=\[\[0, 1\], \[1, 2\]\]: must hold each class number from 0 to 2 once"),
        ([], 0.5, "must hold each class number from 0 to 2 once"),
        ([[0.0, 1], 2], 0.5, "must hold each class number from 0 to 2 once"),
        ([[False, 1], 2], 0.5, "must hold each class number from 0 to 2 once"),
        ([[0, 1], 2], 1.0, "relatedness=1.0: must be at least 0 and below 1"),
    ],
)
def test_bad_input(tree: list[object], relatedness: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_tree_prototypes(tree, 3, 8, relatedness=relatedness)
    with pytest.raises(ValueError, match="num_classes"):
        class_tree_prototypes([0, 1, 2], 3, 2)


def test_an_empty_group_changes_nothing() -> None:
    torch.testing.assert_close(tree_similarity([[], [0, 1], 2], 3), tree_similarity([[0, 1], 2], 3))


def test_matching_would_give_the_prototypes_to_classes_that_are_not_related() -> None:
    options = {"PROTOTYPES": "class_tree", "CLASS_TREE": TREE, "ASSIGNMENT": "matched"}
    for name in ("clop", "prototype_pull"):
        with pytest.raises(ValueError, match="PROTOTYPES class_tree needs ASSIGNMENT random"):
            build_loss(name, {name: options}, 6, 8)
