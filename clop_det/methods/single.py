"""What a pretraining step optimises: encoder and loss in one module, so that data parallelism wraps both."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clop_det.engine.compiler import compiler_errors_named
from clop_det.engine.precision import autocast
from clop_det.losses.base import Loss
from clop_det.methods.encoder import Encoder


class PretrainModel(nn.Module):
    """Encoder followed by the loss; the loss may hold parameters (a classifier, learned prototypes) and buffers."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        encoder: Encoder,
        loss: Loss,
        pixel_mean: list[float],
        pixel_std: list[float],
        bf16: bool,
        channels_last: bool = True,
    ):
        """`pixel_mean`, `pixel_std`: RGB, in 0..255."""
        super().__init__()
        self.encoder = encoder
        self.loss = loss
        self.bf16 = bf16
        # Of the last batch that the loss saw, (2N,d) of this rank: what a look at the training needs.
        self.latest_embeddings: Tensor | None = None
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        encoder.backbone.to(memory_format=self.layout)
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(1, 3, 1, 1), persistent=False)

    def forward(self, views: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Views (2N,3,S,S) normalised float, labels (N,) with -1 = unlabelled -> the loss's weighted parts, scalars."""
        return self.loss_parts(self.embed(views), labels)

    def loss_parts(self, embeddings: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Embeddings (2N,d) and labels (N,) of this rank -> the loss's weighted parts over all ranks, scalars."""
        self.latest_embeddings = embeddings.detach()
        return self.loss.parts(embeddings, labels)

    def embed(self, views: Tensor) -> Tensor:
        """Views (M,3,S,S) -> embeddings (M,d), widened to fp32: the losses never see half-precision logits."""
        with compiler_errors_named(), autocast(self.bf16, views.device):
            embeddings: Tensor = self.encoder(views.contiguous(memory_format=self.layout))[1]
        return embeddings if embeddings.dtype == torch.float64 else embeddings.float()

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Images (n,3,S,S) uint8 RGB -> pooled backbone features (n,D) in fp32, in the mode the module is in."""
        inputs = self._normalise(images)
        with autocast(self.bf16, inputs.device):
            features: Tensor = self.encoder.backbone(inputs.contiguous(memory_format=self.layout))
        return features.float()

    @torch.no_grad()
    def project(self, features: Tensor) -> Tensor:
        """Pooled backbone features (n,D) -> embeddings (n,d) in fp32, in the mode the module is in."""
        with autocast(self.bf16, features.device):
            embeddings: Tensor = self.encoder.projector(features)
        return embeddings.float()

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Images (n,3,S,S) uint8 RGB -> embeddings (n,d) in fp32, in the mode the module is in."""
        return self.embed(self._normalise(images))

    def _normalise(self, images: Tensor) -> Tensor:
        return (images.to(self.pixel_mean.device).float() - self.pixel_mean) / self.pixel_std
