"""SimMatch: pseudo-labels of classes and of labelled neighbours, each corrected by the other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clop_det.data.views import STANDARD, WEAK, ViewGroup
from clop_det.keys import above, at_least, between
from clop_det.methods.base import EmbeddingMethod, MethodContext
from clop_det.methods.parts import LOSS_WEIGHT, MethodWithLoss, Queue, of_all_ranks, weighted_mean
from clop_det.methods.registry import register_method


@register_method(
    "simmatch",
    {
        "TEMPERATURE": ("Temperature T of the softmax over the bank.", above(0)),
        "BANK": ("Labelled rows in the bank.", at_least(1)),
        "SMOOTHING": ("Share alpha of the classifier in a pseudo-label; the bank has the rest.", between(0, 1)),
        "ALIGNMENT": ("Steps over whose mean pseudo-labels are aligned to equal shares; 0: none.", at_least(0)),
        "THRESHOLD": ("Least probability of a pseudo-label that is learnt.", between(0, 1)),
        "UNLABELLED_WEIGHT": ("Weight of the pseudo-labels of classes.", at_least(0)),
        "INSTANCE_WEIGHT": ("Weight of the agreement on neighbours.", at_least(0)),
        "LOSS_WEIGHT": LOSS_WEIGHT,
    },
)
class SimMatch(MethodWithLoss, EmbeddingMethod):
    """A classifier and a bank of labelled embeddings teach the strong view by what they make of the weak one.

        supervised   mean over labelled images of CE(y, p)
        pseudo       mean over unlabelled images of 1[max p^ >= t] CE(p^, p'),   p^ = alpha a + (1 - alpha) A q
        instances    mean over unlabelled images of CE(q^, q'),   q^_i proportional to q_i a_{y_i}

    p, p': the classifier's probabilities of the weak and the strong view; a: p aligned, proportional to p_k / m_k, with
    m the mean of the unlabelled images' mean p over the latest steps, this one included, so that no class is
    preferred; q, q': softmax(z b_i / T) over the bank's unit rows b_i of class y_i; A q: the sums of q over each class;
    p^ and q^ without gradient. The bank holds the latest labelled weak views, where the authors keep one row for each
    labelled image. Until it has a row, the terms of unlabelled images are 0. Source: Zheng et al. 2022 (SimMatch, arXiv
    2203.06915), equations 6-12, and the authors' code; the alignment as in ReMixMatch (Berthelot et al. 2020, arXiv
    1911.09785, section 3.1) to the uniform distribution. The authors' teacher is a moving average of the student.
    """

    views_needed = (ViewGroup((WEAK, STANDARD)),)
    needs_labels = True

    def __init__(
        self,
        context: MethodContext,
        temperature: float = 0.1,
        bank: int = 2560,
        smoothing: float = 0.9,
        alignment: int = 256,
        threshold: float = 0.95,
        unlabelled_weight: float = 1.0,
        instance_weight: float = 1.0,
        loss_weight: float = 0.0,
    ) -> None:
        super().__init__(context, loss_weight)
        if context.num_classes < 1:
            raise ValueError("it needs labels, but no image has one; choose another method")
        self.temperature, self.smoothing, self.threshold = temperature, smoothing, threshold
        self.weights = unlabelled_weight, instance_weight
        self.classifier = nn.Linear(self.encoder.feature_dim, context.num_classes)
        self.bank = Queue(bank, self.encoder.embedding_dim)
        self.bank_labels = Queue(bank, context.num_classes, empty=True)  # one-hot rows; zeros where nothing is yet
        self.guesses = Queue(alignment, context.num_classes, empty=True) if alignment else None

    def rows(self, pixels: Tensor) -> Tensor:
        """Features and embeddings, (2n, D + d)."""
        return torch.cat(self.encode(pixels), 1)

    def loss_parts(self, rows: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """A weak and a strong view of n images -> `simmatch_supervised`, `simmatch_pseudo`, `simmatch_instances`."""
        widths = [self.encoder.feature_dim, self.encoder.embedding_dim]
        features, embeddings = (part.contiguous() for part in torch.split(rows, widths, 1))
        self.latest_embeddings = embeddings.detach()
        (weak, strong), unit = self.classifier(features).chunk(2), F.normalize(embeddings, dim=1)
        close, near = self._neighbours(unit).chunk(2)
        labelled, free = (labels >= 0).float(), (labels < 0).float() * self.bank_labels.rows.any()
        own = F.one_hot(labels.clamp(min=0), weak.shape[1]) * labelled[:, None]
        self._latest = of_all_ranks(unit[: len(labels)], 1), of_all_ranks(own, 1)
        with torch.no_grad():
            pseudo, instances = self._targets(self._aligned(weak.softmax(1)), close.exp())
        known = F.cross_entropy(weak, labels.clamp(min=0), reduction="none")
        sure = (pseudo.max(1).values >= self.threshold).float()
        guessed = -(pseudo * strong.log_softmax(1)).sum(1)
        similar = -(instances * near).sum(1)
        parts = {
            "simmatch_supervised": weighted_mean(known, labelled),
            "simmatch_pseudo": self.weights[0] * weighted_mean(guessed * sure, free),
            "simmatch_instances": self.weights[1] * weighted_mean(similar, free),
        }
        return self.with_loss(parts, embeddings, labels)

    def after_step(self, progress: float) -> None:
        """The labelled weak views enter the bank, and the mean guess enters the means of the alignment."""
        rows, own = self._latest
        labelled = own.any(1)
        self.bank.add(rows[labelled])
        self.bank_labels.add(own[labelled])
        if self.guesses is not None and not labelled.all():
            self.guesses.add(self._mean_guess[None])

    def _aligned(self, p: Tensor) -> Tensor:
        """Probabilities (n, K) divided by the unlabelled images' mean over the latest steps, this one included."""
        if self.guesses is None:
            return p
        free = 1 - self._latest[1].sum(1, keepdim=True)
        self._mean_guess = (of_all_ranks(p, 1) * free).sum(0) / free.sum().clamp(min=1)
        # This step's mean takes the place of the oldest; the zeros of places without one count for nothing.
        mean = self.guesses.rows.index_fill(0, self.guesses.place[None], 0.0).sum(0) + self._mean_guess
        aligned = p / mean.clamp(min=torch.finfo(mean.dtype).tiny)
        return aligned / aligned.sum(1, keepdim=True)

    def _neighbours(self, unit: Tensor) -> Tensor:
        """(2n, M) logarithms of the shares of the bank's rows; a place without a row has nothing."""
        empty = ~self.bank_labels.rows.any(1)
        logits = unit @ self.bank.rows.t() / self.temperature
        return logits.masked_fill(empty, -1e9).log_softmax(1)

    def _targets(self, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        """Pseudo-labels of classes (n, K) and of the bank's rows (n, M)."""
        own = self.bank_labels.rows.to(p.dtype)
        instances = q * (p @ own.t())
        instances = instances / instances.sum(1, keepdim=True).clamp(min=1e-12)
        return self.smoothing * p + (1 - self.smoothing) * (q @ own), instances
