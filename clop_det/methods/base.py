"""What all pretraining methods share: networks and objective in one module, one call a step.

A method says which views it needs, turns them into named parts whose sum is minimised, says which of its modules are
trained, and names the one encoder that is probed, saved and converted. Trainer, probes, checkpoints, data parallelism
and conversion know this interface alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn

from clop_det.data.views import TWO_VIEWS, ViewGroup, Views
from clop_det.engine.compiler import compiler_errors_named
from clop_det.engine.precision import autocast
from clop_det.losses.base import Loss
from clop_det.methods.encoder import Encoder


@dataclass(frozen=True)
class MethodContext:
    """What a run gives its method.

    Attributes:
        encoder: backbone and projector as ENCODER.* and PROJECTOR.* say; initial weights are a function of SEED alone.
        build_loss: builds the loss that LOSS.NAME names, with its options.
        num_classes: K.
        pixel_mean: RGB, in 0..255.
        pixel_std: the same.
        half_type: the type that the networks compute in by autocast, bf16 or fp16; False: fp32.
        channels_last: whether the networks compute in that memory layout.
    """

    encoder: Encoder
    build_loss: Callable[[], Loss]
    num_classes: int
    pixel_mean: Sequence[float]
    pixel_std: Sequence[float]
    half_type: torch.dtype | Literal[False] = False
    channels_last: bool = True


class Method(nn.Module):
    """A pretraining method; a subclass gives `step`, and `after_step` if it has something to do there.

    All that a later step depends on is a parameter or a buffer, so that a checkpoint holds it and a step that is left
    out can be undone. Further networks are plain attributes: a second projector, a predictor, a momentum teacher
    (`copy.deepcopy(self.encoder)`), a queue as a buffer. Their tensors are in the checkpoint, and conversion leaves
    them out as heads of the method. With several processes every rank must hold the same buffers: gather what goes
    into them (`clop_det.methods.parts.of_all_ranks`). Torch's global generators are seeded before each step by (seed,
    iteration, rank), so that a resumed run repeats the random numbers that `step` draws from them.

    Attributes:
        encoder: the network that is probed and saved. The detector gets its backbone.
        loss: the loss that LOSS.NAME names, where the method uses it; None where it brings an objective of its own.
        views_needed: groups of views that `step` is given.
        needs_labels: whether the method itself, not its loss, is refused where no image has a label.
        latest_embeddings: (V n, d) of the last batch of this rank, detached, for the watch over collapse; None: no
            watch.
    """

    views_needed: tuple[ViewGroup, ...] = TWO_VIEWS
    needs_labels: bool = False
    encoder: Encoder
    loss: Loss | None
    latest_embeddings: Tensor | None
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, context: MethodContext) -> None:
        super().__init__()
        self.encoder = context.encoder
        self.loss = None
        self.latest_embeddings = None
        self.half_type = context.half_type
        self.layout = torch.channels_last if context.channels_last else torch.contiguous_format
        self.encoder.backbone.to(memory_format=self.layout)
        for name, values in (("pixel_mean", context.pixel_mean), ("pixel_std", context.pixel_std)):
            self.register_buffer(name, torch.tensor(list(values)).view(1, 3, 1, 1), persistent=False)

    @abstractmethod
    def step(self, views: Views, labels: Tensor) -> dict[str, Tensor]:
        """The weighted parts of the objective by name; their sum is minimised.

        Args:
            views: of the n images of this rank.
            labels: (n,) int64, -1 = unlabelled.

        Returns:
            Scalars: of the images of all ranks, as the losses of this package compute them, or means over the images
            of this rank. The gradients are averaged over the ranks.
        """

    def forward(self, views: Views, labels: Tensor) -> dict[str, Tensor]:
        """`step`, called through the wrapper of data parallelism."""
        return self.step(views, labels)

    def after_step(self, progress: float) -> None:
        """Called after the optimiser's update, and not after a step that was left out; a teacher follows here.

        The loss in `loss` has counted the step already.

        Args:
            progress: steps done as a share of the run, above 0 and up to 1.
        """

    @property
    def trained(self) -> tuple[nn.Module, ...]:
        """The modules whose parameters the optimiser gets; all other parameters are frozen. By default: everything."""
        return (self,)

    @property
    def heads(self) -> list[str]:
        """Names of what a checkpoint holds beside the encoder: its tensors are `<name>` or `<name>.<...>`."""
        return sorted({name.split(".")[0] for name in self.state_dict()} - {"encoder"})

    def encode(self, pixels: Tensor, encoder: Encoder | None = None) -> tuple[Tensor, Tensor]:
        """Normalised pixels (M,3,S,S) -> features (M,D) and embeddings (M,d), widened to fp32, by `encoder` or ours."""
        with compiler_errors_named(), autocast(self.half_type, pixels.device):
            found = (encoder or self.encoder)(pixels.contiguous(memory_format=self.layout))
        features, embeddings = (rows if rows.dtype == torch.float64 else rows.float() for rows in found)
        return features, embeddings

    def embed(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (M,3,S,S) -> embeddings (M,d) in fp32: the losses never see half-precision logits."""
        return self.encode(pixels)[1]

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Images (n,3,S,S) uint8 RGB -> pooled backbone features (n,D) in fp32, in the mode the module is in."""
        inputs = self._normalise(images)
        with autocast(self.half_type, inputs.device):
            features: Tensor = self.encoder.backbone(inputs.contiguous(memory_format=self.layout))
        return features.float()

    @torch.no_grad()
    def project(self, features: Tensor) -> Tensor:
        """Pooled backbone features (n,D) -> embeddings (n,d) in fp32, in the mode the module is in."""
        with autocast(self.half_type, features.device):
            embeddings: Tensor = self.encoder.projector(features)
        return embeddings.float()

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Images (n,3,S,S) uint8 RGB -> embeddings (n,d) in fp32, in the mode the module is in."""
        return self.embed(self._normalise(images))

    def _normalise(self, images: Tensor) -> Tensor:
        return (images.to(self.pixel_mean.device).float() - self.pixel_mean) / self.pixel_std


class EmbeddingMethod(Method):
    """A method whose parts are a function of a few rows for each view; a subclass gives `loss_parts`.

    The step is cut at these rows, so their gradient can be cached: such a method honours SOLVER.ACCUMULATE. By default
    the rows are the embeddings. A subclass that needs more overrides `rows`.
    """

    @final
    def step(self, views: Views, labels: Tensor) -> dict[str, Tensor]:
        """Views -> rows -> parts."""
        return self.loss_parts(self.rows(views.stacked), labels)

    def rows(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (M,3,S,S) -> (M,c), each row of its own image: what the networks say, side by side.

        With SOLVER.ACCUMULATE it is called twice for each micro-batch, and the second call's gradient is used.
        """
        return self.embed(pixels)

    @abstractmethod
    def loss_parts(self, rows: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Rows (V n, c), first views first, and labels (n,) of this rank -> the weighted parts; see `step`."""
