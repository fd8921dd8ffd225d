"""What all losses share: one call, named parts, full precision."""

from __future__ import annotations

import functools
import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from clop_det.losses.batch import Batch, gather_batch


class Loss(nn.Module):
    """A loss of two views per image: `loss(embeddings, labels) -> scalar`.

    A subclass gives `terms`. It is called with the batch of all ranks, outside autocast, in float32 or float64.

    Attributes:
        num_classes: K, or None if the loss takes any label.
        embedding_dim: the d that the loss needs, or None for any.
        min_images: smallest global number of images that the loss is defined for.
        needs_matching: the loss waits for `match_prototypes` before the first step.
    """

    num_classes: int | None = None
    embedding_dim: int | None = None
    min_images: int = 1

    @property
    def needs_matching(self) -> bool:
        """Whether `match_prototypes` has to be called before the first step."""
        return False

    @property
    def needs_labels(self) -> bool:
        """Whether a run without one label is refused."""
        return self.num_classes is not None

    def match_prototypes(self, class_means: Tensor) -> None:
        """Assign prototypes to classes by the (K, d) mean embeddings of the labelled images; most losses have none."""
        raise ValueError(f"class_means: {type(self).__name__} has no prototypes to match")

    def after_step(self) -> None:
        """Called once after every optimiser step, on every rank; for losses that count steps. Most do nothing."""

    def critical_learning_rate(self, num_embeddings: int) -> float | None:
        """Learning rate of free embeddings past which the loss's repulsion alone makes their mean grow.

        Args:
            num_embeddings: n, views of the global batch; two for each image.

        Returns:
            None for a loss without such a threshold. See docs/collapse.md.
        """
        return None

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of the global batch.

        Args:
            embeddings: (2n, d) of this rank, first views, then second views.
            labels: (n,) integers of this rank, -1 = unlabelled.

        Returns:
            Scalar, the same on every rank. After DistributedDataParallel's averaging its gradient is that of one
            process with the global batch.

        Raises:
            ValueError: bad input; names argument, value and rule.
        """
        return functools.reduce(torch.add, self.parts(embeddings, labels).values())

    def parts(self, embeddings: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The weighted terms whose sum is the loss, by metric name. Arguments and errors as in `forward`."""
        device = embeddings.device.type if isinstance(embeddings, Tensor) else "cpu"
        with torch.autocast(device_type=device, enabled=False):
            batch = gather_batch(embeddings, labels, self.num_classes, self.embedding_dim, self.min_images)
            return self.terms(batch)

    @abstractmethod
    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms of the loss for a checked, gathered batch."""


def check_positive(argument: str, value: float) -> float:
    """`value` as a float; ValueError unless it is a finite number above 0."""
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"{argument}={value}: must be a finite number above 0")
    return float(value)


def check_weight(argument: str, value: float) -> float:
    """`value` as a float; ValueError unless it is a finite number of at least 0."""
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{argument}={value}: must be a finite number of at least 0")
    return float(value)
