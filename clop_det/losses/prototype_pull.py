"""The pull of labelled embeddings to fixed class prototypes: the term that CLOP adds to its base loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from clop_det.keys import Key, above, at_least, one_of
from clop_det.losses.assignment import best_assignment
from clop_det.losses.base import Loss, check_positive
from clop_det.losses.batch import NORM_EPSILON, Batch
from clop_det.losses.prototype_sets import CLASS_TREE, KINDS, PROTOTYPE_OPTIONS, prototypes_of
from clop_det.losses.prototypes import coherence, welch_bound
from clop_det.losses.pulls import SCORE_PULLS, pull_of_labelled
from clop_det.losses.registry import LossContext, register_loss

SIMILARITIES = ("cosine", "euclidean", "manhattan")
ASSIGNMENTS = ("random", "matched")
PULLS = ("linear", *SCORE_PULLS)


class PrototypePull(Loss):
    """The pull of the labelled views to the prototype of their class, over the global batch: their mean distance.

        1/|S| sum_{(z, y) in S} distance(z, y),    S = labelled views of all ranks, z on the unit sphere

    | similarity | distance(z, y)          | range        |
    |------------|-------------------------|--------------|
    | cosine     | 1 - z . c_y             | 0 .. 2       |
    | euclidean  | ||z - c_y||_2           | 0 .. 2       |
    | manhattan  | ||z - c_y||_1           | 0 .. 2 sqrt d |
    | several directions per class | 1 - ||P_y z||^2, P_y the projection to the class's subspace | 0 .. 1 |

    This is the linear pull. The others are functions of the cosines with all prototypes; see `pulls.py`.

    Without a labelled view the loss is exactly 0, with zero gradients and a live graph. Source: Li, Nguyen,
    Pimentel-Alarcon 2025 (CLOP), the second term; distances other than cosine, subspaces and matching are ours.

    Args:
        prototypes: (K, d), normalised here, or (K, m, d) for m orthonormal directions per class.
        similarity: "cosine", "euclidean" or "manhattan"; several directions need "cosine".
        assignment: "random" leaves prototype k to class k; "matched" waits for `match_prototypes`.
        learned: train the prototypes (for ablation); they are normalised at every step.
        pull: "linear", "squared", "softmax", "ntce" or "nonl"; all but the first need "cosine" and one direction.
        temperature: T > 0 of "softmax", "ntce" and "nonl".

    Raises:
        ValueError: unknown similarity, assignment or pull, a temperature that is not above 0, or prototypes that are
            not finite, of another shape, zero, or, with several directions per class, not orthonormal within a class.
    """

    prototypes: Tensor
    matched: Tensor

    def __init__(
        self,
        prototypes: Tensor,
        similarity: str = "cosine",
        assignment: str = "random",
        learned: bool = False,
        pull: str = "linear",
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        _check_choice("pull", pull, PULLS)
        _check_choice("similarity", similarity, SIMILARITIES)
        _check_choice("assignment", assignment, ASSIGNMENTS)
        if prototypes.dim() == 3 and similarity != "cosine":
            raise ValueError(f"similarity={similarity!r}: several directions per class are defined for 'cosine' alone")
        if prototypes.dim() == 3 and learned:
            raise ValueError("learned=True: several directions per class stay orthogonal only when they are fixed")
        if pull != "linear" and (similarity != "cosine" or prototypes.dim() == 3):
            raise ValueError(f"pull={pull!r}: defined for the cosine with one direction per class alone")
        vectors = checked_prototypes(prototypes)
        self.num_classes, self.embedding_dim = len(vectors), vectors.shape[-1]
        self.similarity = similarity
        self.assignment = assignment
        self.pull = pull
        self.temperature = 1.0 if pull == "squared" else check_positive("temperature", temperature)
        if learned:
            self.prototypes = nn.Parameter(vectors)
        else:
            self.register_buffer("prototypes", vectors)
        self.register_buffer("matched", torch.tensor(assignment == "random"))

    @property
    def needs_matching(self) -> bool:
        """True while the assignment is "matched" and no class means have been seen."""
        return not bool(self.matched)

    @torch.no_grad()
    def match_prototypes(self, class_means: Tensor) -> None:
        """Give each class the prototype that makes the total cosine (or projection) to the class means largest.

        Exact (Hungarian). The prototypes are reordered in place, so the assignment is saved with them; a second call
        changes nothing. Call it with the same means on every rank.

        Args:
            class_means: (K, d) mean embedding of the labelled images of each class.

        Raises:
            ValueError: another shape, or values that are not finite.
        """
        if not self.needs_matching:
            return
        expected = (self.num_classes, self.embedding_dim)
        if tuple(class_means.shape) != expected or not torch.isfinite(class_means).all():
            raise ValueError(f"class_means: shape {tuple(class_means.shape)}; must be finite, of shape {expected}")
        means = _unit(class_means.to(self.prototypes))
        if self.prototypes.dim() == 2:
            score = means @ self.prototypes.t()
        else:
            score = torch.einsum("id,kmd->ikm", means, self.prototypes).square().sum(2)
        self.prototypes.copy_(self.prototypes[best_assignment(score)])
        self.matched.fill_(True)

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """One term, `prototype_pull`."""
        labels = batch.view_labels
        if self.pull != "linear":
            prototypes = _unit(self.prototypes.to(batch.unit.dtype))
            value = pull_of_labelled(self.pull, batch.unit, labels, prototypes, self.temperature)
            return {"prototype_pull": value}
        labelled = labels >= 0
        distance = self._distance(batch.unit, labels.clamp(min=0))
        return {"prototype_pull": (distance * labelled).sum() / labelled.sum().clamp(min=1)}

    def _distance(self, unit: Tensor, labels: Tensor) -> Tensor:
        prototypes = self.prototypes.to(unit.dtype)
        if prototypes.dim() == 3:
            return 1 - torch.einsum("nd,nmd->nm", unit, prototypes[labels]).square().sum(1)
        own = _unit(prototypes)[labels]
        if self.similarity == "cosine":
            return 1 - (unit * own).sum(1)
        distance: Tensor = (unit - own).norm(p=2 if self.similarity == "euclidean" else 1, dim=1)
        return distance

    def extra_repr(self) -> str:
        """Settings for printing, with the coherence of the prototypes beside its lower bound."""
        rows = self.prototypes.detach().flatten(0, -2)
        return (
            f"prototypes={tuple(self.prototypes.shape)}, pull={self.pull}, similarity={self.similarity}, "
            f"assignment={self.assignment}, "
            f"coherence={coherence(rows):.4f} (Welch bound {welch_bound(*rows.shape):.4f})"
        )


def _unit(rows: Tensor) -> Tensor:
    return nn.functional.normalize(rows, dim=-1, eps=NORM_EPSILON)


def checked_prototypes(prototypes: Tensor) -> Tensor:
    """A normalised copy of (K, d) or (K, m, d) prototypes; ValueError if they are not what a pull can use."""
    shape = tuple(prototypes.shape)
    if prototypes.dim() not in (2, 3) or not prototypes.numel() or not prototypes.is_floating_point():
        raise ValueError(f"prototypes: {prototypes.dtype} of shape {shape}; must be floats, (K, d) or (K, m, d)")
    norms = prototypes.norm(dim=-1)
    if not torch.isfinite(prototypes).all() or (norms <= NORM_EPSILON).any():
        raise ValueError("prototypes: holds NaN, infinite or zero rows; every row needs a direction")
    vectors: Tensor = prototypes.detach() / norms[..., None]
    if prototypes.dim() == 3:
        overlap = vectors @ vectors.transpose(1, 2) - torch.eye(shape[1], dtype=vectors.dtype, device=vectors.device)
        if overlap.abs().max() > 1e-4:
            raise ValueError(
                f"prototypes: directions of one class overlap by {overlap.abs().max():.3g}; must be orthonormal"
            )
    return vectors


def _check_choice(argument: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{argument}={value!r}: must be one of {', '.join(choices)}")


PULL_OPTIONS = {
    **PROTOTYPE_OPTIONS,
    "PROTOTYPES": Key(
        "orthonormal",
        "Set of prototypes; more classes than dimensions need random_unit, learned or low_coherence_frame.",
        one_of(*KINDS),
    ),
    "ASSIGNMENT": Key(
        "random", "Which class gets which prototype; matched: by the class means at the start.", one_of(*ASSIGNMENTS)
    ),
    "DIRECTIONS": Key(
        1, "Directions per class; above 1 the pull is to a subspace (orthonormal prototypes only).", at_least(1)
    ),
    "SIMILARITY": Key("cosine", "Distance of an embedding to its prototype.", one_of(*SIMILARITIES)),
    "PULL": Key(
        "linear",
        "How labelled embeddings are pulled: linear: by SIMILARITY; squared, softmax, ntce and nonl: as the losses"
        " dot_regression, prototype_softmax, ntce and nonl (cosine and one direction per class alone).",
        one_of(*PULLS),
    ),
    "PULL_TEMPERATURE": Key(0.1, "Temperature T of the pulls softmax, ntce and nonl.", above(0)),
}


def build_pull(options: Mapping[str, Any], context: LossContext) -> PrototypePull:
    """A `PrototypePull` from the options `PULL_OPTIONS`."""
    kind, vectors = options["PROTOTYPES"], prototypes_of(options, context.num_classes, context.embedding_dim)
    if kind == CLASS_TREE and options["ASSIGNMENT"] != "random":
        raise ValueError(
            f"ASSIGNMENT={options['ASSIGNMENT']!r}: gives prototypes to other classes than the tree says; PROTOTYPES"
            f" {CLASS_TREE} needs ASSIGNMENT random"
        )
    return PrototypePull(
        vectors,
        options["SIMILARITY"],
        options["ASSIGNMENT"],
        kind == "learned",
        options["PULL"],
        options["PULL_TEMPERATURE"],
    )


@register_loss("prototype_pull", PULL_OPTIONS)
def _build(options: Mapping[str, Any], context: LossContext) -> Loss:
    return build_pull(options, context)
