"""Which labels a run may see: one stratified split, a function of the seed (frozen by `split_files.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clop_det.engine.seeding import generator
from clop_det.errors import UserError


@dataclass(frozen=True)
class VisibleLabels:
    """The labels that the loss is told.

    Attributes:
        indices: (M,) int64, sorted: the images whose label is visible.
        told: (M,) int64, what the loss is told of them; another class than the data set's where noise was asked for.
    """

    indices: Tensor
    told: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    def masked(self, images: int) -> Tensor:
        """Labels (N,) of all `images`, -1 where hidden."""
        labels = torch.full((images,), -1, dtype=torch.int64)
        labels[self.indices] = self.told
        return labels


def label_split(
    labels: Tensor,
    fraction: float,
    seed: int,
    num_classes: int | None = None,
    class_names: Sequence[str] = (),
    per_class: int = 0,
) -> Tensor:
    """Choose the images whose labels are seen.

    Of every class a share of `fraction`, rounded, at least one image; or `per_class` images, if that is not 0. With the
    same seed the larger of two splits contains the smaller, so that studies over fractions or counts add labels instead
    of exchanging them.

    Args:
        labels: (N,) int64; images with label -1 are never chosen and do not count.
        fraction: in (0, 1].
        seed: any integer; equal seeds give equal splits.
        num_classes: K; by default the number of names, or the largest label + 1.
        class_names: names for the error message.
        per_class: images of each class, > 0; 0: by `fraction`.

    Returns:
        (M,) int64, sorted indices of the labelled images.

    Raises:
        UserError: a class with no image or less than that count.
    """
    counts = torch.bincount(labels[labels >= 0], minlength=num_classes or len(class_names) or 1)
    _require_enough(counts, per_class, class_names)
    chosen = []
    for label, count in enumerate(counts.tolist()):
        members = (labels == label).nonzero().view(-1)
        order = torch.randperm(count, generator=generator(seed, "label split", label))
        chosen.append(members[order[: per_class or max(1, int(fraction * count + 0.5))]])
    return torch.cat(chosen).sort().values


def _require_enough(counts: Tensor, per_class: int, class_names: Sequence[str]) -> None:
    short = (counts < max(1, per_class)).nonzero().view(-1).tolist()
    if not short:
        return
    label, count = short[0], int(counts[short[0]])
    name = f" ({class_names[label]!r})" if label < len(class_names) else ""
    if count:
        raise UserError(
            f"LABELS.PER_CLASS is {per_class}, but class {label}{name} of {len(counts)} has {count} labelled images"
        )
    raise UserError(
        f"class {label}{name} of {len(counts)} has no labelled image; every class needs at least one:"
        " add images or remove the class from all splits"
    )
