"""Linear probe: multinomial logistic regression on frozen, standardised features.

Deterministic and without a learning rate to tune: the penalised loss is strictly convex, so its minimum is a property
of the features; only the strength of the penalty is chosen, on a held-out stratified part of the training features
(never on the test features), and the chosen model is fitted again on all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clop_det.probes.measures.checks import check_features, check_labels

L2_GRID = (1.0, 0.1, 0.01, 0.001)
HELD_OUT = 0.2


class LogisticRegression:
    """Minimiser of mean cross-entropy + l2/2 |W|^2 (the bias is free) over features (N, D) and labels (N,).

    scikit-learn's `LogisticRegression(C)` is the same with C = 1 / (l2 N).

    The problem is solved in coordinates in which it is well conditioned: along the principal axes of the features,
    each divided by the square root of its curvature bound s^2/2 + l2 (Boehning 1992). This changes the path of L-BFGS,
    not the minimum, and makes tens of iterations enough where plain coordinates need hundreds.
    """

    def __init__(self, features: Tensor, labels: Tensor, num_classes: int) -> None:
        """Standardise `features` and find their principal axes, once for all penalties."""
        self.labels, self.num_classes = labels, num_classes
        self.mean = features.mean(dim=0)
        deviation = (features - self.mean).square().mean(dim=0).sqrt()
        # A constant column (up to rounding) carries nothing; dividing by its deviation would turn noise into signal.
        noise = 10 * torch.finfo(features.dtype).eps * features.abs().amax(dim=0)
        self.scale = torch.where(deviation > noise, 1 / deviation, torch.zeros_like(deviation))
        standard = (features - self.mean) * self.scale
        if len(standard) < standard.shape[1]:
            self.curvature, self.axes = _axes_of_few(standard)
        else:
            covariance = (standard.T @ standard).double() / len(standard)
            curvature, axes = torch.linalg.eigh(covariance)
            self.curvature, self.axes = curvature.clamp(min=0).to(features), axes.to(features)
        self.rotated = standard @ self.axes
        self.reached = features.new_zeros(num_classes, len(self.curvature)), features.new_zeros(num_classes, 1)

    def fit(self, l2: float, max_iterations: int = 100, tolerance: float = 1e-7) -> tuple[Tensor, Tensor]:
        """Weights (D, K) on raw features, and biases (K,), at the minimum for the penalty `l2`.

        It starts where the last fit of this problem ended, for the minima of neighbouring penalties lie close, and
        stops when a step changes the loss by less than `tolerance`, or after `max_iterations`.
        """
        stretch = (self.curvature / 2 + l2).rsqrt()
        inputs = self.rotated * stretch
        # Classes come first, in weights and logits: products of tall matrices with narrow ones, and above all the one
        # that gives the gradient, take two to five times as long on CPUs as those of flat matrices with wide ones.
        weight = (self.reached[0] / stretch).requires_grad_()
        bias = self.reached[1].clone().requires_grad_()
        solver = torch.optim.LBFGS(  # pairs beyond the eighth save no iteration here, and each costs time
            [weight, bias], max_iter=max_iterations, history_size=8, line_search_fn="strong_wolfe",
            tolerance_grad=100 * tolerance, tolerance_change=tolerance,
        )  # fmt: skip
        missed = inputs.new_zeros(1, self.num_classes, len(self.labels))  # gradient of the loss in its logarithms
        missed.scatter_(1, self.labels[None, None], -1 / len(self.labels))

        @torch.no_grad()
        def closure() -> Tensor:
            """The loss, and its gradient as autograd computes it; for matrices this small, recording takes longer."""
            stretched = stretch * weight
            logarithms = torch.addmm(bias, weight, inputs.T)[None].log_softmax(dim=1)  # (1, K, N)
            slopes = torch.ops.aten._log_softmax_backward_data(missed, logarithms, 1, inputs.dtype)[0]
            weight.grad = slopes @ inputs + l2 / 2 * (2 * stretched) * stretch
            bias.grad = slopes.sum(dim=1, keepdim=True)
            loss: Tensor = F.nll_loss(logarithms, self.labels[None]) + stretched.square().sum() * (l2 / 2)
            return loss

        solver.step(closure)  # type: ignore[no-untyped-call]
        self.reached = stretch * weight.detach(), bias.detach()
        raw = self.scale[:, None] * (self.axes @ self.reached[0].T)
        return raw, self.reached[1][:, 0] - self.mean @ raw


def _axes_of_few(standard: Tensor) -> tuple[Tensor, Tensor]:
    """Curvature (n,) and principal axes (D, n) of fewer images than dimensions, from the products of the images.

    n <= N axes span the features; the weights of all other directions are zero at the minimum. In float64: the weak
    directions of collapsed features are far below the rounding of float32 products, and the classes may lie in them.
    """
    wide = standard.double()
    curvature, left = torch.linalg.eigh(wide @ wide.T / len(wide))
    kept = curvature > len(wide) * torch.finfo(wide.dtype).eps * curvature[-1]
    curvature, left = curvature[kept], left[:, kept]
    return curvature.to(standard), (wide.T @ (left * (len(wide) * curvature).rsqrt())).to(standard)


def held_out_split(labels: Tensor, fraction: float = HELD_OUT) -> Tensor:
    """Boolean mask (N,): a stratified `fraction` of each class, at least one of each class that has two or more.

    The same for the same labels: drawn with a fixed seed.
    """
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(len(labels), dtype=torch.bool)
    labels = labels.cpu()
    for label in torch.unique(labels):
        members = shuffled[labels[shuffled] == label]
        if len(members) > 1:
            mask[members[: max(1, round(fraction * len(members)))]] = True
    return mask


def linear_probe(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    l2_grid: Sequence[float] = L2_GRID,
) -> dict[str, float]:
    """Accuracy of a multinomial logistic regression fitted on the training features.

    Args:
        train_features: (N, D); columns are standardised here, with the training part's mean and deviation.
        train_labels: (N,) integers >= 0.
        test_features: (M, D).
        test_labels: (M,) integers >= 0; a class that training lacks counts as wrong.
        l2_grid: penalties > 0 to choose from; equal held-out accuracies go to the larger penalty. If no class has two
            images, nothing can be held out, and the largest is taken.

    Returns:
        {"linear_top1": fraction 0..1 of test features classified correctly, "linear_l2": the penalty chosen}.

    Raises:
        ValueError: shapes, dtypes or values break the rules above, or a feature is not finite.
    """
    train, test = check_features("train_features", train_features), check_features("test_features", test_features)
    train_labels = check_labels("train_labels", train_labels, len(train)).to(train.device)
    test_labels = check_labels("test_labels", test_labels, len(test)).to(train.device)
    if train.shape[1] != test.shape[1]:
        raise ValueError(f"train_features have {train.shape[1]} dimensions but test_features {test.shape[1]}")
    if not l2_grid or any(not l2 > 0 for l2 in l2_grid):
        raise ValueError(f"l2_grid must be one or more numbers > 0, but is {tuple(l2_grid)}")
    num_classes = int(torch.maximum(train_labels.max(), test_labels.max())) + 1
    l2 = _choose_l2(train, train_labels, num_classes, sorted(l2_grid, reverse=True))
    weight, bias = LogisticRegression(train, train_labels, num_classes).fit(l2)
    return {"linear_top1": _accuracy(test.to(train), test_labels, weight, bias), "linear_l2": float(l2)}


def _choose_l2(features: Tensor, labels: Tensor, num_classes: int, grid: Sequence[float]) -> float:
    held_out = held_out_split(labels).to(features.device)
    if len(grid) == 1 or not bool(held_out.any()):
        return grid[0]
    problem = LogisticRegression(features[~held_out], labels[~held_out], num_classes)
    # Loosely fitted: penalties are told apart by an image or more, and half of a fit goes into its last digits.
    fits = (problem.fit(l2, tolerance=1e-6) for l2 in grid)
    accuracies = [_accuracy(features[held_out], labels[held_out], *fit) for fit in fits]
    return grid[accuracies.index(max(accuracies))]


def _accuracy(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> float:
    predicted = torch.addmm(bias, features, weight).argmax(dim=1)
    return float((predicted == labels).double().mean())
