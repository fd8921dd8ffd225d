"""Visible labels made worse on purpose, for studies: a long tail of classes, and wrong labels.

Both are functions of a seed and nested: with one seed, a stronger imbalance keeps a subset of the labels that a weaker
one keeps, and a larger share of noise changes the labels that a smaller one changes, to the same classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clop_det.data.splits import VisibleLabels
from clop_det.engine.seeding import generator
from clop_det.errors import UserError


def long_tail(labels: Tensor, indices: Tensor, ratio: float, seed: int) -> Tensor:
    """Thin out labelled images so that class sizes fall off exponentially (Cui et al. 2019, long-tailed CIFAR).

    The class of rank r among K keeps n * ratio ** (-r / (K - 1)) images, rounded; n is the size of the smallest class,
    whatever the ratio and the ranks: so every ratio is met, and a larger one keeps fewer of each. Ranks are drawn from
    the seed, so that a study over seeds does not make the same classes rare every time.

    Args:
        labels: (N,) int64 of all images.
        indices: (M,) int64, the labelled images.
        ratio: of the most to the least frequent class, >= 1; 1 changes nothing.
        seed: any integer.

    Returns:
        (M',) int64, the sorted indices that stay labelled.

    Raises:
        UserError: too few labels for the ratio: the rarest class would keep less than one.
    """
    classes = torch.unique(labels[indices])
    if ratio == 1 or len(classes) < 2:
        return indices
    ranks = torch.randperm(len(classes), generator=generator(seed, "long tail ranks"))
    shares = float(ratio) ** (-ranks.double() / (len(classes) - 1))
    members = [indices[labels[indices] == label] for label in classes]
    most = min(len(own) for own in members)
    if most / ratio < 1 - 1e-9:
        raise UserError(
            f"LABELS.IMBALANCE is {ratio:g}, but the smallest class has only {most} visible labels, so the rarest would"
            " keep none; lower it, or show more labels (LABELS.FRACTION, LABELS.PER_CLASS)"
        )
    kept = []
    for label, own, share in zip(classes.tolist(), members, shares.tolist(), strict=True):
        order = torch.randperm(len(own), generator=generator(seed, "long tail", label))
        kept.append(own[order[: int(most * share + 0.5)]])
    return torch.cat(kept).sort().values


def noisy_labels(
    labels: Tensor, indices: Tensor, share: float, num_classes: int, seed: int, class_names: Sequence[str] = ()
) -> VisibleLabels:
    """Replace a share of the visible labels by another class, drawn uniformly from the others.

    Args:
        labels: (N,) int64 of all images.
        indices: (M,) int64, the labelled images, sorted.
        share: in [0, 1); that share of the M labels is wrong afterwards, to rounding.
        num_classes: K.
        seed: any integer.
        class_names: names for the error message.

    Raises:
        UserError: a single class, or a class that is left without a visible label.
    """
    told = labels[indices].clone()
    count = int(share * len(indices) + 0.5)
    if count == 0:
        return VisibleLabels(indices, told)
    if num_classes < 2:
        raise UserError(f"LABELS.NOISE is {share}, but the data set has {num_classes} class; there is no wrong label")
    chosen = torch.randperm(len(indices), generator=generator(seed, "noisy places"))[:count]
    # Drawn for every image, so that the wrong class of one does not depend on which others are chosen.
    steps = torch.randint(1, num_classes, (len(indices),), generator=generator(seed, "noisy classes"))
    told[chosen] = (told[chosen] + steps[chosen]) % num_classes
    lost = sorted(set(labels[indices].tolist()) - set(told.tolist()))
    if lost:
        name = class_names[lost[0]] if lost[0] < len(class_names) else str(lost[0])
        raise UserError(
            f"LABELS.NOISE {share:g} leaves class {name!r} without a visible label; show more labels (LABELS.FRACTION,"
            " LABELS.PER_CLASS), lower the noise or take another SEED"
        )
    return VisibleLabels(indices, told)
