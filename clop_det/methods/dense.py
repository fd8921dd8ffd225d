"""DenseCL: cells of the maps find their counterpart in the other view, beside MoCo's contrast of whole images."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clop_det.data.views import Views
from clop_det.engine.precision import autocast
from clop_det.keys import above, at_least, between, one_of
from clop_det.methods.base import MethodContext
from clop_det.methods.encoder import Encoder
from clop_det.methods.momentum import TEACHER_OPTIONS, TeacherMethod
from clop_det.methods.parts import Queue, of_all_ranks, weighted_mean
from clop_det.methods.registry import register_method

MATCHES = ("features", "location")


@register_method(
    "dense",
    {
        **TEACHER_OPTIONS,
        "TEMPERATURE": ("Temperature T of the softmax over similarities.", above(0)),
        "QUEUE": ("Rows of each of the two queues of negatives.", at_least(1)),
        "WEIGHT": ("Share of the dense term; the term of whole images has the rest.", between(0, 1)),
        "STAGE": 'Stage whose map is contrasted, e.g. res4; "": the deepest.',
        "GRID": ("Cells along each side that the map is pooled to.", at_least(1)),
        "MATCH": (
            "Counterpart of a cell: features: the most similar cell of the backbone's map (DenseCL); location: the"
            " nearest cell in the image, if it is within a cell's diagonal (as VICRegL).",
            one_of(*MATCHES),
        ),
    },
)
class Dense(TeacherMethod):
    """DenseCL: (1 - w) MoCo's term of the pooled embeddings + w the same of cells and their counterparts.

        dense = mean over both directions, images and cells s of  -log [ e^(r_s.t_m(s)/T) / (... + sum_u e^(r_s.u/T)) ]

    r_s: the student's projected cell s of one view, t_m(s): the teacher's of its counterpart in the other, u: a queue
    of the teacher's mean projected cells. Labels are not used. Source: Wang et al. 2021 (DenseCL, arXiv 2011.09157),
    equations 2-3 and section 3.3; Bardes, Ponce, LeCun 2022 (VICRegL, arXiv 2210.01571), section 3.2 for the location.
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
        weight: float = 0.5,
        stage: str = "",
        grid: int = 7,
        match: str = "features",
    ) -> None:
        super().__init__(context, momentum, cosine, probed, loss_weight)
        shapes = self.encoder.backbone.map_shapes
        self.stage = stage or list(shapes)[-1]
        if self.stage not in shapes:
            raise ValueError(f"STAGE={stage!r}: the backbone has the stages {', '.join(shapes)}")
        self.temperature, self.weight, self.grid, self.match = temperature, weight, grid, match
        width, dim = shapes[self.stage].width, self.encoder.embedding_dim
        self.dense_projector = nn.Sequential(
            nn.Conv2d(width, width, 1), nn.ReLU(inplace=True), nn.Conv2d(width, dim, 1)
        )
        self.teacher_projector = copy.deepcopy(self.dense_projector)
        self.queue, self.dense_queue = Queue(queue, dim), Queue(queue, dim)

    @property
    def learned(self) -> tuple[nn.Module, ...]:
        """The projector of the cells."""
        return (self.dense_projector,)

    @property
    def followed(self) -> tuple[tuple[nn.Module, nn.Module], ...]:
        """Encoders and projectors of the cells."""
        return (*super().followed, (self.teacher_projector, self.dense_projector))

    def step(self, views: Views, labels: Tensor) -> dict[str, Tensor]:
        """Two views of n images -> `dense_global`, `dense_cells`."""
        embeddings, seen, cells = self._look(views.stacked, self.student, self.dense_projector)
        self.latest_embeddings = embeddings.detach()
        with torch.no_grad():
            keys, looked, targets = self._look(views.stacked, self.teacher, self.teacher_projector)
            keys, pooled = F.normalize(keys, dim=1), F.normalize(targets.mean(2), dim=1)
            # The other view of each row's image.
            others, looked, targets = (_exchanged(rows) for rows in (keys, looked, F.normalize(targets, dim=1)))
            place, near = self._counterparts(views, seen, looked)
            targets = targets.gather(2, place[:, None].expand_as(targets))
            self._keys = of_all_ranks(keys, 2), of_all_ranks(pooled, 2)
        whole = self._contrast(F.normalize(embeddings, dim=1), others, self.queue)
        rows, counterparts = (each.transpose(1, 2).flatten(0, 1) for each in (F.normalize(cells, dim=1), targets))
        parts = {
            "dense_global": (1 - self.weight) * whole.mean(),
            "dense_cells": self.weight * weighted_mean(self._contrast(rows, counterparts, self.dense_queue), near),
        }
        return self.with_loss(parts, embeddings, labels)

    def after_step(self, progress: float) -> None:
        """The teacher follows, and the step's keys enter the queues."""
        super().after_step(progress)
        for queue, keys in zip((self.queue, self.dense_queue), self._keys, strict=True):
            queue.add(keys)

    def _look(self, pixels: Tensor, encoder: Encoder, projector: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings (2n, d), cells of the backbone (2n, C, G) and projected cells (2n, d, G), G = grid squared."""
        with autocast(self.half_type, pixels.device):
            features, maps = encoder.backbone.features_and_maps(pixels.contiguous(memory_format=self.layout))
            embeddings = encoder.projector(features)
            pooled = F.adaptive_avg_pool2d(maps[self.stage], self.grid)
            found = embeddings, pooled.flatten(2), projector(pooled).flatten(2)
        first, second, third = (each if each.dtype == torch.float64 else each.float() for each in found)
        return first, second, third

    def _counterparts(self, views: Views, seen: Tensor, looked: Tensor) -> tuple[Tensor, Tensor]:
        """For each cell (2n, G) the counterpart's place in the other view, and (2n G,) whether it counts."""
        if self.match == "features":
            similar = torch.einsum("ncs,nct->nst", F.normalize(seen, dim=1), F.normalize(looked, dim=1))
            return similar.argmax(2), torch.ones(similar.shape[:2], device=seen.device).flatten()
        centres, diagonal = cell_centres(views, self.grid)
        distance, place = torch.cdist(centres, _exchanged(centres)).min(2)
        return place, (distance <= diagonal[:, None]).float().flatten()

    def _contrast(self, rows: Tensor, keys: Tensor, queue: Queue) -> Tensor:
        """(M,) cross-entropies of unit rows (M, d) that find their keys among those of the queue."""
        positive = (rows * keys).sum(1, keepdim=True)
        logits = torch.cat([positive, rows @ queue.rows.t()], 1) / self.temperature
        return logits.logsumexp(1) - logits[:, 0]


def _exchanged(rows: Tensor) -> Tensor:
    """Rows of first and second views -> of second and first ones."""
    return rows.roll(len(rows) // 2, 0)


def cell_centres(views: Views, grid: int) -> tuple[Tensor, Tensor]:
    """Where the cells of two views lie in their image.

    Returns:
        centres (2n, G, 2) in pixels of the image, row by row, G = grid squared; a cell's diagonal (2n,), the larger one
        of an image's two views.
    """
    boxes, flips = views.boxes.flatten(0, 1), views.flips.flatten()
    start, extent = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    steps = (torch.arange(grid, device=boxes.device) + 0.5) / grid
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    shares = torch.stack([x, y], -1).flatten(0, 1).expand(len(boxes), -1, -1)
    mirrored = torch.stack([1 - shares[..., 0], shares[..., 1]], -1)
    shares = torch.where(flips[:, None, None], mirrored, shares)
    diagonal = (extent / grid).norm(dim=1)
    return start[:, None] + shares * extent[:, None], torch.maximum(diagonal, _exchanged(diagonal))
