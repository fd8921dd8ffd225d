"""Where should the next labels go: class labels for pretraining, or boxed images for fine-tuning?

The figure of a run is taken as a + b log(labels) + c log(boxed images), fitted for each seed. At a given place one more
boxed image is then worth (c / images) / (b / labels) class labels: the break-even ratio of their costs. Its interval
over the seeds is Fieller's (1954), which has no end where the seeds leave open whether labels help at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import special

from clop_det.comparison.names import BOXED_IMAGE, LABEL
from clop_det.comparison.results.reading import number, read_object
from clop_det.comparison.results.rows import Row

_FRACTION = "DATASETS.TRAIN_FRACTION"


@dataclass(frozen=True)
class Point:
    """One setting: class labels of its pretraining, boxed images of its fine-tuning, and the figure of each seed."""

    labels: float
    images: float
    figures: Mapping[int, float]


@dataclass(frozen=True)
class Worth:
    """What one more boxed image is worth at a place, in class labels.

    Attributes:
        labels, images: the place, the geometric middle of the points.
        ratio: class labels that bring as much as one boxed image; NaN where labels bring nothing.
        low, high: 95 % interval, within 0 and infinity.
        slopes: seed -> (a, b, c) of the fit.
    """

    labels: float
    images: float
    ratio: float
    low: float
    high: float
    slopes: Mapping[int, tuple[float, float, float]]

    def figure(self, labels: float, images: float) -> float:
        """The fitted figure at a place, mean over the seeds."""
        values = [a + b * math.log(labels) + c * math.log(images) for a, b, c in self.slopes.values()]
        return math.fsum(values) / len(values)

    def sentence(self, init: str, metric: str, cost: Mapping[str, float]) -> str:
        """The worth in words; with costs, what it means for the next purchase."""
        ends = f"{_count(self.low)} to {'any number' if math.isinf(self.high) else _count(self.high)}"
        text = (
            f"{init}: at {self.labels:.0f} class labels and {self.images:.0f} boxed images, one more boxed image brings"
            f" as much {metric} as {'?' if math.isnan(self.ratio) else _count(self.ratio)} more class labels"
            f" (95 % interval {ends}, {len(self.slopes)} seeds)."
        )
        if not cost:
            return text
        price = cost[BOXED_IMAGE] / cost[LABEL]
        what = "class labels" if price > self.high else "boxed images" if price < self.low else ""
        paid = f" At {price:g} times the cost of a label"
        return text + paid + (f", {what} are the better buy." if what else ", the seeds do not tell which to buy.")


def points_of(rows: Sequence[Row], metric: str) -> dict[str, list[Point]]:
    """Points by initialisation (and detection config, of several), where class labels and boxed images both vary."""
    groups: dict[tuple[str, str], dict[object, list[Row]]] = {}
    for row in rows:
        if metric in row.metrics and _FRACTION in dict(row.setting.detection_grid):
            groups.setdefault((row.setting.init, row.setting.detection), {}).setdefault(row.setting, []).append(row)
    several = len({detection for _, detection in groups}) > 1
    found = {}
    for (init, detection), settings in groups.items():
        points = [point for own in settings.values() if (point := _point(own, metric)) is not None]
        if min(len({point.labels for point in points}), len({point.images for point in points})) > 1:
            found[f"{init}_{detection}" if several else init] = points
    return found


def worth(points: Sequence[Point]) -> Worth | None:
    """Fit the points that have all common seeds; None with fewer than two such seeds or too few places."""
    seeds = sorted(set.intersection(*(set(point.figures) for point in points)))
    design = np.array([[1.0, math.log(point.labels), math.log(point.images)] for point in points])
    if len(seeds) < 2 or np.linalg.matrix_rank(design) < 3:
        return None
    slopes = {}
    for seed in seeds:
        a, b, c = np.linalg.lstsq(design, np.array([point.figures[seed] for point in points]), rcond=None)[0]
        slopes[seed] = (float(a), float(b), float(c))
    labels, images = (float(math.exp(column)) for column in design[:, 1:].mean(axis=0))
    by_image, by_label = ([slope[k] / place for slope in slopes.values()] for k, place in ((2, images), (1, labels)))
    return Worth(labels, images, *fieller(by_image, by_label), slopes)


def fieller(above: Sequence[float], below: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """The ratio of two means of paired values, and Fieller's interval of it, cut at 0.

    Returns:
        ratio, low, high; (NaN, 0, inf) where the mean below is not positive or the interval excludes nothing.
    """
    n = len(above)
    x, y = np.mean(above), np.mean(below)
    (sxx, sxy), (_, syy) = np.cov(above, below) / n
    t2 = float(special.stdtrit(n - 1, 0.5 + level / 2)) ** 2
    # Ratios r that a t test of x - r y does not refuse: (x - r y)^2 <= t^2 (sxx - 2 r sxy + r^2 syy).
    a, b, c = y * y - t2 * syy, x * y - t2 * sxy, x * x - t2 * sxx
    root = b * b - a * c
    ratio = max(0.0, float(x / y)) if y > 0 else math.nan
    if a > 0 and root >= 0 and y > 0:
        return ratio, max(0.0, float((b - math.sqrt(root)) / a)), max(0.0, float((b + math.sqrt(root)) / a))
    if a < 0 and c > 0 and x > 0:  # boxed images help, labels perhaps not: only a lower end
        return ratio, max(0.0, float((b - math.sqrt(root)) / a), float((b + math.sqrt(root)) / a)), math.inf
    return ratio, 0.0, math.inf


def _point(rows: Sequence[Row], metric: str) -> Point | None:
    labels = [_labels(row.folders.get("pretrain")) for row in rows]
    images = [_images(row.folders.get("detect")) for row in rows]
    known = [(one, other) for one, other in zip(labels, images, strict=True) if one and other]
    if len(known) < len(rows):
        return None
    count = len(known)
    return Point(
        sum(one for one, _ in known) / count,
        sum(other for _, other in known) / count,
        {row.seed: row.metrics[metric] for row in rows},
    )


def _labels(folder: Path | None) -> float:
    """Labelled images of a pretraining; 0: not known."""
    value = read_object(folder / "label_split.json").get("labelled_images") if folder else None
    return float(value) if number(value, 1) and value is not None else 0.0


def _images(folder: Path | None) -> float:
    """Boxed images of a fine-tuning: its chosen share, or all of its training sets; 0: not known."""
    if folder is None:
        return 0.0
    chosen = read_object(folder / "train_split.json").get("chosen_images")
    if chosen is not None:
        return float(chosen) if number(chosen, 1) else 0.0
    overlap = read_object(folder / "annotation_checks.json").get("overlap")
    counts = overlap.get("images") if isinstance(overlap, dict) else None
    if not isinstance(counts, dict):
        return 0.0
    own = [count for name, count in counts.items() if not str(name).startswith("CLASSIFICATION.ROOT")]
    return float(sum(count for count in own if number(count, 0)))


def _count(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
