"""What `losses.py`, `loss_overheads.py` and `method_overheads.py` measure, as functions of embeddings.

A case is a loss in an implementation, or a whole method, which makes its views by itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from plain_losses import plain_dcl, plain_info_nce, plain_supcon
from torch import Tensor

from clop_det.losses import build_loss

Case = tuple[str, str]  # loss, implementation
OURS, FLOOR, METHOD = "ours", "matmul floor", "method"
PEERS = {"lightly": "lightly", "pytorch-metric-learning": "pytorch_metric_learning"}
CASES: list[Case] = [
    ("info_nce", OURS),
    ("info_nce", "plain"),
    ("info_nce", "lightly"),
    ("info_nce", "pytorch-metric-learning"),
    ("info_nce", FLOOR),
    ("supcon", OURS),
    ("supcon", "plain"),
    ("supcon", "pytorch-metric-learning"),
    ("dcl", OURS),
    ("dcl", "plain"),
    ("dcl", "lightly"),
    ("clop", OURS),
]


def build(case: Case, labels: Tensor, dim: int, temperature: float) -> Callable[[Tensor], Tensor]:
    """The loss of one case as a function of (2N, d) embeddings."""
    loss, implementation = case
    if implementation == METHOD:
        from method_cases import method_step

        return method_step(loss, labels)
    if implementation == OURS:
        sharing = {name: {"TEMPERATURE": temperature} for name in ("info_nce", "supcon", "dcl")}
        module = build_loss(loss, sharing, 10, dim).to(labels.device)
        return lambda embeddings: module(embeddings, labels)
    if implementation == "plain":
        return {
            "info_nce": lambda embeddings: plain_info_nce(embeddings, temperature),
            "supcon": lambda embeddings: plain_supcon(embeddings, labels, temperature),
            "dcl": lambda embeddings: plain_dcl(embeddings, temperature),
        }[loss]
    if implementation == "lightly":
        from lightly.loss import DCLLoss, NTXentLoss

        peer = NTXentLoss(temperature, memory_bank_size=0) if loss == "info_nce" else DCLLoss(temperature)
        return lambda embeddings: peer(*embeddings.chunk(2))
    if implementation == "pytorch-metric-learning":
        from pytorch_metric_learning import losses

        peer = losses.SupConLoss(temperature)
        alone = torch.arange(len(labels), device=labels.device) + 10  # it knows no unlabelled images
        known = (labels >= 0) & (loss == "supcon")
        classes = torch.where(known, labels, alone).repeat(2)
        return lambda embeddings: peer(embeddings, classes)
    return _three_products


def _three_products(embeddings: Tensor) -> Tensor:
    rows = embeddings.detach()
    gradient = torch.zeros_like(rows)
    block = min(len(rows), 512 if rows.device.type == "cpu" else 1024)
    buffer = rows.new_empty(block, len(rows))
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        logits = torch.mm(part, rows.t(), out=buffer[: len(part)])
        gradient[start : start + block].addmm_(logits, rows)
        gradient.addmm_(logits.t(), part)
    return (embeddings * 0).sum()
