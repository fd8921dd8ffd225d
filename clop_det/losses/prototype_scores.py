"""Losses of the scores z . c_k of every view with fixed class prototypes: O(2N K d), no pair of views is formed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import Tensor

from clop_det.keys import above
from clop_det.losses.base import Loss, check_positive
from clop_det.losses.batch import Batch
from clop_det.losses.prototype_pull import checked_prototypes
from clop_det.losses.prototype_sets import PROTOTYPE_OPTIONS, prototypes_of
from clop_det.losses.pulls import pull_of_labelled
from clop_det.losses.registry import LossContext, register_loss
from clop_det.registry import Explained, class_factory

TEMPERATURE = {"TEMPERATURE": ("Temperature T of the scores.", above(0))}
P = TypeVar("P", bound="type[PrototypeLoss]")


def register_prototype_loss(name: str, options: Mapping[str, Explained] | None = None) -> Callable[[P], P]:
    """Register a class whose constructor takes `prototypes`; it gets those that `PROTOTYPE_OPTIONS` describe.

    Args:
        name: see `register_loss`.
        options: of all other arguments of the constructor, as `register_loss` takes them.
    """

    def decorate(thing: P) -> P:
        factory, own = class_factory(thing, options or {}, {"prototypes": lambda prototypes: prototypes})

        def build(values: Mapping[str, Any], context: LossContext) -> Loss:
            prototypes = prototypes_of(values, context.num_classes, context.embedding_dim)
            return factory({key: values[key] for key in own}, prototypes)

        build.__module__, build.__qualname__ = thing.__module__, thing.__qualname__
        register_loss(name, {**own, **PROTOTYPE_OPTIONS})(build)
        return thing

    return decorate


class PrototypeLoss(Loss):
    """A loss of scores with fixed prototypes (K, d), one a class.

    Args:
        prototypes: (K, d), normalised here.
        temperature: T > 0 of the scores.

    Raises:
        ValueError: prototypes that are not finite, of another shape or zero, or a temperature that is not above 0.
    """

    prototypes: Tensor

    def __init__(self, prototypes: Tensor, temperature: float = 0.1) -> None:
        super().__init__()
        if prototypes.dim() != 2:
            raise ValueError(f"prototypes: shape {tuple(prototypes.shape)}; must be (K, d), one direction a class")
        self.temperature = check_positive("temperature", temperature)
        vectors = checked_prototypes(prototypes)
        self.num_classes, self.embedding_dim = vectors.shape
        self.register_buffer("prototypes", vectors)

    def logits(self, rows: Tensor) -> Tensor:
        """(M, d) unit rows -> (M, K) cosines with the prototypes, over T."""
        return rows @ self.prototypes.to(rows.dtype).t() / self.temperature

    def extra_repr(self) -> str:
        """Settings for printing."""
        return f"prototypes={tuple(self.prototypes.shape)}, temperature={self.temperature}"


class LabelledScores(PrototypeLoss):
    """A pull of the labelled views to their prototypes by the scores; without a labelled view exactly 0.

    Attributes:
        name: of the loss and of its term.
        pull: the name of its formula in `SCORE_PULLS`.
    """

    name = ""
    pull = ""

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """One term, the loss's name."""
        prototypes = self.prototypes.to(batch.unit.dtype)
        value = pull_of_labelled(self.pull, batch.unit, batch.view_labels, prototypes, self.temperature)
        return {self.name: value}


@register_prototype_loss("prototype_softmax", TEMPERATURE)
class PrototypeSoftmax(LabelledScores):
    """Cross-entropy of a softmax over the prototypes: a fixed classifier of unit rows.

        mean_S  -log [ exp(z . c_y / T) / sum_k exp(z . c_k / T) ]

    Source: Hoffer, Hubara, Soudry 2018 (fixed classifiers); Zhu et al. 2021 (fixed simplex ETF); Wang et al. 2017
    (NormFace). Use it when classes should be told apart, not only placed: it pushes from the other prototypes too.
    """

    name, pull = "prototype_softmax", "softmax"


@register_prototype_loss("dot_regression")
class DotRegression(LabelledScores):
    """Half the squared distance of the cosine from 1: the pull grows with the distance, and fades near the prototype.

        mean_S  1/2 (z . c_y - 1)^2

    Source: Yang et al. 2022 (arXiv 2203.09081); half the loss of hyperspherical prototype networks, Mettes, van der
    Pol, Snoek 2019 (arXiv 1901.10514). Use it where classes are unbalanced: it does not push from other classes.
    """

    name, pull = "dot_regression", "squared"

    def __init__(self, prototypes: Tensor) -> None:
        super().__init__(prototypes, temperature=1.0)


@register_prototype_loss("ntce", TEMPERATURE)
class NTCE(LabelledScores):
    """Cross-entropy with the prototype as the anchor: it finds its class's views among the labelled views of the batch.

        mean_S  -log [ exp(c_y . z / T) / sum_{z' in S} exp(c_y . z' / T) ]

    Source: arXiv 2605.20302. Use it where views should compete for a prototype, rather than prototypes for a view.
    """

    name = pull = "ntce"


@register_prototype_loss("nonl", TEMPERATURE)
class NONL(LabelledScores):
    """As `NTCE`, with the views of other classes alone in the denominator.

        mean_S  -log [ exp(c_y . z / T) / sum_{z' in S, y' != y} exp(c_y . z' / T) ]

    A view for which the batch holds no other class has no term. Source: arXiv 2605.20302.
    """

    name = pull = "nonl"
