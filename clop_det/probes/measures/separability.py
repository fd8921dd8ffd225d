"""How far apart frozen features keep classes, or images whose views are the classes: H-score, TransRate, LiDAR."""

from __future__ import annotations

import torch
from torch import Tensor

from clop_det.probes.measures.checks import check_features, check_labels
from clop_det.probes.measures.spectrum import centred


def h_score(features: Tensor, labels: Tensor, shrunk: bool = True) -> float:
    """H-score: trace of the features' inverse covariance times the covariance of their class means.

    Bao et al. 2019 ("An Information-Theoretic Approach to Transferability in Task Transfer Learning"), definition 2,
    with the pseudo-inverse. The shrunk one of Ibrahim et al. 2021 (arXiv 2110.06893), equation 8, has the covariance of
    Ledoit and Wolf, (1 - a) S + a tr(S)/D I, and the factor 1 - a; it stays sensible with fewer rows than dimensions,
    where the plain one only counts classes.

    Args:
        features: (N, D), N >= 2.
        labels: (N,) integers >= 0.
        shrunk: whether to shrink the covariance.

    Raises:
        ValueError: shapes, dtypes or values break the rules above, or a feature is not finite.
    """
    matrix, classes = _checked(features, labels)
    means = _class_means(matrix, classes)[classes]
    between = means.T @ means / len(matrix)
    if shrunk:
        from sklearn.covariance import ledoit_wolf  # a second or two, which every command would wait for

        covariance, shrinkage = ledoit_wolf(matrix.cpu().numpy(), assume_centered=True)
        within = torch.from_numpy(covariance).to(matrix)
        between = (1 - shrinkage) * between
    else:
        within = matrix.T @ matrix / len(matrix)
    return float((torch.linalg.pinv(within, hermitian=True) * between).sum())


def transrate(features: Tensor, labels: Tensor, epsilon: float = 1e-4) -> float:
    """TransRate: coding rate of the features less the mean of the rates of the classes.

    Huang et al. 2022 (arXiv 2106.09362), algorithm 1: R(Z) = 1/2 logdet(I + Z'Z / (n epsilon)) of centred features.
    It grows with the features' scale, so only features that are scaled alike can be compared.

    Args:
        features: (N, D).
        labels: (N,) integers >= 0; the mean runs over the classes that have a row.
        epsilon: squared precision of the code, > 0.

    Raises:
        ValueError: shapes, dtypes or values break the rules above, or a feature is not finite.
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon must be > 0, but is {epsilon}")
    matrix, classes = _checked(features, labels)
    rates = [_coding_rate(matrix[classes == k], epsilon) for k in range(int(classes.max()) + 1)]
    return _coding_rate(matrix, epsilon) - sum(rates) / len(rates)


def lidar(views: Tensor, delta: float = 1e-4, epsilon: float = 1e-7) -> float:
    """LiDAR: effective rank of the linear discriminant analysis whose classes are images.

    Thilak et al. 2024 (arXiv 2312.04000), equations 1-4: exp of the entropy of the eigenvalues, scaled to sum 1, of
    S_w^-1/2 S_b S_w^-1/2. Between 1 and min(N - 1, D); 0 if all images have one mean.

    Args:
        views: (N, q, D) features of q >= 2 augmented views of each of N >= 2 images.
        delta: added to the diagonal of the covariance within images, > 0.
        epsilon: added to the eigenvalues' shares.

    Raises:
        ValueError: another shape, values that are not finite, or delta not above 0.
    """
    if views.ndim != 3 or views.shape[0] < 2 or views.shape[1] < 2:
        raise ValueError(f"views must be (N, q, D) with N, q >= 2, but the shape is {tuple(views.shape)}")
    if not delta > 0:
        raise ValueError(f"delta must be > 0, but is {delta}")
    images, count, dim = views.shape
    rows = check_features("views", views.reshape(-1, dim)).double().reshape(images, count, dim)
    means = rows.mean(1)
    apart = (rows - means[:, None]).reshape(-1, dim)
    within = apart.T @ apart / (images * (count - 1)) + delta * torch.eye(dim).to(rows)
    # Eigenvalues of the product by those of the same matrix seen from the side of the images, or of the dimensions.
    root = torch.linalg.solve_triangular(torch.linalg.cholesky(within), centred(means).T, upper=False)
    values = torch.linalg.svdvals(root).square() / (images - 1)
    total = values.sum()
    if not total > 0:
        return 0.0
    share = values / total + epsilon
    return float((-(share * share.log()).sum()).exp())


def scaled(features: Tensor) -> Tensor:
    """Features (..., D) divided by the root mean square distance of the rows from their mean, as float64.

    Features of two networks then have one scale, on which `transrate` and `lidar` depend. Equal rows stay as they are.
    """
    rows = features.double().reshape(-1, features.shape[-1])
    spread = (rows - rows.mean(0)).square().sum(1).mean().sqrt()
    return features.double() / spread if spread > 0 else features.double()


def _checked(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Centred features in float64, and labels without gaps."""
    matrix = check_features("features", features, min_rows=2).double()
    labels = check_labels("labels", labels, len(matrix)).to(matrix.device)
    return centred(matrix), torch.unique(labels, return_inverse=True)[1]


def _class_means(matrix: Tensor, classes: Tensor) -> Tensor:
    sums = matrix.new_zeros(int(classes.max()) + 1, matrix.shape[1]).index_add_(0, classes, matrix)
    return sums / torch.bincount(classes)[:, None]


def _coding_rate(rows: Tensor, epsilon: float) -> float:
    count, dim = rows.shape
    gram = rows.T @ rows if dim <= count else rows @ rows.T  # both have the same determinant
    eye = torch.eye(len(gram), dtype=rows.dtype, device=rows.device)
    return float(torch.linalg.slogdet(eye + gram / (count * epsilon))[1] / 2)
