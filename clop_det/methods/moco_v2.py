"""MoCo v2: the student's view finds its teacher's view of the same image among those of earlier batches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clop_det.keys import above, at_least
from clop_det.methods.base import MethodContext
from clop_det.methods.momentum import TEACHER_OPTIONS, TwoNetworksMethod
from clop_det.methods.parts import Queue, of_all_ranks
from clop_det.methods.registry import register_method


@register_method(
    "moco_v2",
    {
        **TEACHER_OPTIONS,
        "TEMPERATURE": ("Temperature T of the softmax over similarities.", above(0)),
        "QUEUE": ("Keys of earlier views that are the negatives.", at_least(1)),
    },
)
class MoCoV2(TwoNetworksMethod):
    """Negatives are the teacher's embeddings of earlier batches, so that small batches have many.

        mean over both directions and i of  -log [ e^(z.t/T) / (e^(z.t/T) + sum_{u in queue} e^(z.u/T)) ]

    z: the student's embedding of one view, t: the teacher's of the other, u: the queue's rows, all on the unit sphere.
    After a step the keys of both views of all ranks enter the queue. Labels are not used. Source: He et al. 2020 (MoCo,
    arXiv 1911.05722), algorithm 1; Chen et al. 2020 (v2, arXiv 2003.04297); both directions: the authors' CIFAR demo.
    """

    def __init__(
        self,
        context: MethodContext,
        momentum: float = 0.999,
        cosine: bool = False,
        probed: str = "student",
        loss_weight: float = 0.0,
        temperature: float = 0.2,
        queue: int = 65536,
    ) -> None:
        super().__init__(context, momentum, cosine, probed, loss_weight)
        self.temperature = temperature
        self.queue = Queue(queue, self.encoder.embedding_dim)

    def agreement(self, embeddings: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Two views of n images -> `moco`."""
        queries, keys = F.normalize(embeddings, dim=1), F.normalize(targets, dim=1)
        positive = (queries * keys.roll(len(keys) // 2, 0)).sum(1, keepdim=True)
        logits = torch.cat([positive, queries @ self.queue.rows.t()], 1) / self.temperature
        self._keys = of_all_ranks(keys, 2)
        target = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        return {"moco": F.cross_entropy(logits, target)}

    def after_step(self, progress: float) -> None:
        """The teacher follows, and the step's keys enter the queue."""
        super().after_step(progress)
        self.queue.add(self._keys)
