"""Targeted supervised contrastive loss: SupCon in which fixed prototypes stand among their classes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from clop_det.losses.batch import Batch
from clop_det.losses.partition import row_blocks
from clop_det.losses.prototype_scores import TEMPERATURE, PrototypeLoss, register_prototype_loss
from clop_det.losses.supcon import positive_agreement


@register_prototype_loss("tsc", TEMPERATURE)
class TSC(PrototypeLoss):
    """SupCon (L_out) whose positives and negatives hold each prototype twice, as a member of its class.

        mean_i  1/|P(i)| sum_{p in P(i)} -log [ exp(z_i . z_p / T) / sum_{a != i} exp(z_i . z_a / T) ]

    over the 2N views i; a runs over the views and twice over the prototypes; P(i): the other views of i's class and its
    prototype twice, of an unlabelled image its other view alone. Prototypes are never anchors. Memory is O(block x 2N).
    Source: Li et al. 2022 (TSC, arXiv 2111.13998), equation 4; twice as in the authors' code. Use it where classes are
    unbalanced and SupCon lets the rare ones run together.

    Args:
        prototypes: (K, d), one a class.
        temperature: T > 0.
    """

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """One term, `tsc`."""
        unit, prototypes = batch.unit, self.prototypes.to(batch.unit.dtype)
        columns = torch.cat([unit, prototypes, prototypes])
        blocks = list(row_blocks(unit))
        total = unit.new_zeros(())
        for a, b in blocks:
            block = unit[a:b], a, columns, self.temperature
            # With several blocks a block's logits are computed again in the backward pass, and not kept.
            total = total + (
                _log_partitions(*block)
                if len(blocks) == 1
                else checkpoint(_log_partitions, *block, use_reentrant=False, preserve_rng_state=False)
            )
        return {"tsc": total / len(unit) - positive_agreement(batch, prototypes) / self.temperature}


def _log_partitions(rows: Tensor, first: int, columns: Tensor, temperature: float) -> Tensor:
    """Sum over rows of the log-sum-exp of their similarities to the columns, but for column `first` + row: itself."""
    logits = (rows / temperature) @ columns.t()
    logits.diagonal(first).fill_(-torch.inf)
    return logits.logsumexp(1).sum()
