"""Gradient descent on free points of the unit sphere: the loss's forces without an encoder, many runs at once.

The loss is InfoNCE, or its repulsion alone, plus CLOP's pull, on n points z (Li, Nguyen, Pimentel-Alarcon 2025):

    sum_i log sum_{a != i} exp(z_i.z_a / T)                     repulsion
    - sum_i z_i.z_j(i) / T                                      attraction, j(i) the other view of i
    + weight * n/|S| * sum_{(z, y) in S} (1 - z.c_y)            pull of the labelled points S to their prototypes

for reduction "sum"; "mean" divides all of it by n, which is the loss that is trained. So `weight` is CLOP's lambda
under both, and only the learning rate changes its meaning, by the factor n.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RULES = ("ambient", "tangent", "free")
REDUCTIONS = ("sum", "mean")


def force(
    points: Tensor,
    temperature: Tensor | float,
    *,
    attraction: bool = False,
    weight: Tensor | float = 0.0,
    labels: Tensor | None = None,
    prototypes: Tensor | None = None,
) -> Tensor:
    """Gradient of the sum-reduced loss in the ambient space, as if the unit rows were free vectors.

    Args:
        points: (B, n, d) unit rows; with `attraction`, point i + n/2 is the other view of point i.
        temperature: T > 0, a number or one a run (B,).
        attraction: include the attraction of the two views.
        weight: lambda >= 0 of the pull, a number or one a run (B,).
        labels: (n,) or (B, n) int64, -1 = unlabelled; needed for a pull.
        prototypes: (K, d) unit rows; needed for a pull.

    Returns:
        (B, n, d).

    Raises:
        ValueError: an odd n with `attraction`, or labels without prototypes.
    """
    batch, n, _ = points.shape
    temperature = _per_run(temperature, points)
    logits = points @ points.transpose(1, 2) / temperature
    logits.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    attention = logits.softmax(dim=2)
    gradient = (attention + attention.transpose(1, 2)) @ points
    if attraction:
        if n % 2:
            raise ValueError(f"points: {n} of them cannot be two views of each image; must be even")
        gradient = gradient - 2 * points.roll(n // 2, dims=1)
    gradient = gradient / temperature
    if labels is None:
        return gradient
    if prototypes is None:
        raise ValueError("prototypes=None: labels need prototypes to be pulled to")
    labels = labels.to(points.device).expand(batch, n)
    labelled = labels >= 0
    share = labelled.sum(dim=1).clamp(min=1)[:, None, None] / n
    own = prototypes.to(points)[labels.clamp(min=0)] * labelled[..., None]
    return gradient - _per_run(weight, points) / share.to(points) * own


def step(parameters: Tensor, learning_rate: Tensor, rule: str, gradient: Tensor) -> Tensor:
    """One update of (B, n, d) parameters, given the ambient `gradient` at their directions.

    | rule | update | what it models |
    |---|---|---|
    | ambient | move along the gradient, then back to the sphere | the paper's Figure 1 |
    | tangent | move along the gradient's part in the tangent plane, then back to the sphere | Riemannian descent |
    | free | descend through the normalisation on unconstrained vectors, whose lengths grow | autograd on embeddings |

    Raises:
        ValueError: unknown rule.
    """
    if rule not in RULES:
        raise ValueError(f"rule={rule!r}: must be one of {', '.join(RULES)}")
    if rule == "ambient":
        return F.normalize(parameters - learning_rate * gradient, dim=2)
    lengths: Tensor = torch.linalg.vector_norm(parameters, dim=2, keepdim=True)
    directions = parameters / lengths
    tangent = gradient - (gradient * directions).sum(dim=2, keepdim=True) * directions
    if rule == "tangent":
        return F.normalize(directions - learning_rate * tangent, dim=2)
    return parameters - learning_rate * tangent / lengths


@torch.no_grad()
def simulate(
    points: Tensor,
    learning_rate: Tensor | float,
    temperature: Tensor | float,
    *,
    rule: str = "ambient",
    attraction: bool = False,
    reduction: str = "sum",
    weight: Tensor | float = 0.0,
    labels: Tensor | None = None,
    prototypes: Tensor | None = None,
    steps: int = 500,
    every: int = 0,
) -> Tensor:
    """Full-batch gradient descent of B independent runs side by side.

    Args:
        points: (B, n, d) unit rows to start from.
        learning_rate: eta >= 0, a number or one a run (B,).
        temperature: T > 0, a number or one a run (B,).
        rule: see `step`.
        attraction: InfoNCE instead of its repulsion alone; see `force`.
        reduction: "sum" or "mean" over the n points.
        weight: lambda of CLOP's pull, a number or one a run (B,).
        labels: (n,) or (B, n) int64, -1 = unlabelled.
        prototypes: (K, d) unit rows.
        steps: number of updates >= 0.
        every: record the points before the first update and after every so many; 0 = only the last.

    Returns:
        the directions at the end, (B, n, d), or with `every` the recorded ones, (F, B, n, d).

    Raises:
        ValueError: a shape, a name or a number out of range.
    """
    _check(points, learning_rate, temperature, reduction, weight, labels, prototypes, steps)
    rate = _per_run(learning_rate, points) / (points.shape[1] if reduction == "mean" else 1)
    parameters, recorded = points, [points]
    for taken in range(1, steps + 1):
        directions = F.normalize(parameters, dim=2) if rule == "free" else parameters
        gradient = force(
            directions, temperature, attraction=attraction, weight=weight, labels=labels, prototypes=prototypes
        )
        parameters = step(parameters, rate, rule, gradient)
        if every and taken % every == 0:
            recorded.append(F.normalize(parameters, dim=2))
    return torch.stack(recorded) if every else F.normalize(parameters, dim=2)


def _per_run(value: Tensor | float, points: Tensor) -> Tensor:
    """A number, or one a run, as a tensor that broadcasts against (B, n, d)."""
    return torch.as_tensor(value, dtype=points.dtype, device=points.device).reshape(-1, 1, 1)


def _check(
    points: Tensor,
    learning_rate: Tensor | float,
    temperature: Tensor | float,
    reduction: str,
    weight: Tensor | float,
    labels: Tensor | None,
    prototypes: Tensor | None,
    steps: int,
) -> None:
    if points.dim() != 3 or points.shape[1] < 2 or not points.is_floating_point():
        raise ValueError(
            f"points: {points.dtype} of shape {tuple(points.shape)}; must be floating point (B, n >= 2, d)"
        )
    ranges = (("learning_rate", learning_rate, ">="), ("temperature", temperature, ">"), ("weight", weight, ">="))
    for name, value, lowest in ranges:
        numbers = torch.as_tensor(value, dtype=torch.float64).reshape(-1)
        if len(numbers) not in (1, len(points)):
            raise ValueError(f"{name}: {len(numbers)} values for {len(points)} runs; must be one, or one a run")
        if not bool((numbers > 0 if lowest == ">" else numbers >= 0).all()):
            raise ValueError(f"{name}: lowest is {numbers.min():g}; must be {lowest} 0")
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction={reduction!r}: must be one of {', '.join(REDUCTIONS)}")
    if steps < 0:
        raise ValueError(f"steps={steps}: must be at least 0")
    if labels is not None and prototypes is not None:
        if labels.shape[-1] != points.shape[1] or prototypes.shape[-1] != points.shape[2]:
            raise ValueError(
                f"labels {tuple(labels.shape)}, prototypes {tuple(prototypes.shape)}: "
                f"do not fit points {tuple(points.shape)}"
            )
        if int(labels.max()) >= len(prototypes):
            raise ValueError(f"labels: highest is {int(labels.max())}; must be below the {len(prototypes)} prototypes")
