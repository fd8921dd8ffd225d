"""Cross-entropy of a linear classifier on the labelled views."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from clop_det.keys import between
from clop_det.losses.base import Loss
from clop_det.losses.batch import Batch
from clop_det.losses.registry import register_loss


@register_loss(
    "cross_entropy",
    {"LABEL_SMOOTHING": ("Share of the target spread evenly over all classes.", between(0, 1, "[)"))},
)
class CrossEntropy(Loss):
    """Supervised training on the labelled images alone.

        1/|S| sum_{(e, y) in S} -log softmax(W e + b)_y,    S = labelled views of the global batch

    The embeddings are used as they come, not on the unit sphere; W and b are parameters of the loss. Without a labelled
    image the loss is exactly 0 with zero gradients.

    Args:
        num_classes: K.
        embedding_dim: d.
        label_smoothing: share of the target spread evenly over all classes; 0 <= share < 1.

    Raises:
        ValueError: label_smoothing out of range.
    """

    def __init__(self, num_classes: int, embedding_dim: int, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing}: must be at least 0 and below 1")
        self.num_classes = num_classes
        self.embedding_dim = embedding_dim
        self.label_smoothing = label_smoothing
        self.classifier = nn.Linear(embedding_dim, num_classes)

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """One term, `cross_entropy`."""
        labels = batch.view_labels
        weight, bias = (parameter.to(batch.embeddings.dtype) for parameter in self.classifier.parameters())
        logits = F.linear(batch.embeddings, weight, bias)
        total = F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum", label_smoothing=self.label_smoothing)
        return {"cross_entropy": total / (labels >= 0).sum().clamp(min=1)}

    def extra_repr(self) -> str:
        """Settings for printing."""
        return f"label_smoothing={self.label_smoothing}"
