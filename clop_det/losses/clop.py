"""CLOP: any base loss plus the pull of labelled embeddings to class prototypes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from clop_det.keys import Key, at_least
from clop_det.losses.base import Loss, check_weight
from clop_det.losses.batch import Batch
from clop_det.losses.prototype_pull import PULL_OPTIONS, PrototypePull, build_pull
from clop_det.losses.registry import LossContext, register_loss


class CLOP(Loss):
    """Semi-supervised contrastive loss with prototypes.

        L_base + lambda * 1/|S| sum_{(z, y) in S} (1 - cos(z, c_y)),    S = labelled views of the global batch

    Unlabelled images (-1) enter the base loss alone. Source: Li, Nguyen, Pimentel-Alarcon 2025, arXiv 2512.07880.

    Args:
        base: any other loss of this package.
        prototypes: (K, d) or (K, m, d) fixed prototypes, or a `PrototypePull` that holds them with its settings.
        weight: lambda >= 0; means the same at every number of ranks.

    Raises:
        ValueError: a weight below 0, a base that pulls to prototypes, or one of other prototypes, K or d.
    """

    def __init__(self, base: Loss, prototypes: Tensor | PrototypePull, weight: float = 1.0) -> None:
        super().__init__()
        if isinstance(base, (CLOP, PrototypePull)):
            raise ValueError(f"base={type(base).__name__}: already pulls to prototypes; choose another base loss")
        self.weight = check_weight("weight", weight)
        self.base = base
        self.pull = prototypes if isinstance(prototypes, PrototypePull) else PrototypePull(prototypes)
        self.num_classes, self.embedding_dim = self.pull.num_classes, self.pull.embedding_dim
        self.min_images = base.min_images
        for argument in ("num_classes", "embedding_dim"):
            theirs, ours = getattr(base, argument), getattr(self, argument)
            if theirs not in (None, ours):
                raise ValueError(f"prototypes: {argument} {ours}, but the base has {theirs}; they must be equal")
        held = getattr(base, "prototypes", None)
        if held is not None and (self.needs_matching or not _same(held, self.pull.prototypes)):
            raise ValueError(
                f"base={type(base).__name__}: holds other prototypes than the pull; give both the same PROTOTYPES and"
                " PROTOTYPE_SEED, ASSIGNMENT random and DIRECTIONS 1"
            )

    @property
    def needs_matching(self) -> bool:
        """True while the prototypes wait for `match_prototypes`."""
        return self.pull.needs_matching

    def match_prototypes(self, class_means: Tensor) -> None:
        """Assign prototypes to classes; see `PrototypePull.match_prototypes`."""
        self.pull.match_prototypes(class_means)

    def after_step(self) -> None:
        """Passed on to the base."""
        self.base.after_step()

    def critical_learning_rate(self, num_embeddings: int) -> float | None:
        """That of the base, which alone repels."""
        return self.base.critical_learning_rate(num_embeddings)

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of the base and `prototype_pull`, weighted."""
        pull = {name: self.weight * term for name, term in self.pull.terms(batch).items()}
        return {**self.base.terms(batch), **pull}

    def extra_repr(self) -> str:
        """Settings for printing."""
        return f"weight={self.weight}"


def _same(held: Tensor, ours: Tensor) -> bool:
    """Whether two sets of prototypes are one, in whatever precision each is held."""
    return held.shape == ours.shape and torch.allclose(held.double(), ours.double(), rtol=0, atol=1e-5)


@register_loss(
    "clop",
    {
        "BASE": Key("info_nce", "Name of the base loss; its own LOSS.<BASE> options apply.", names="loss"),
        "WEIGHT": Key(1.0, "Weight lambda of the pull to the prototypes.", at_least(0)),
        **PULL_OPTIONS,
    },
)
def _build(options: Mapping[str, Any], context: LossContext) -> Loss:
    if options["BASE"] in ("clop", "prototype_pull"):
        raise ValueError(f"BASE={options['BASE']!r}: already pulls to prototypes; choose another base loss")
    return CLOP(context.build(options["BASE"]), build_pull(options, context), options["WEIGHT"])
