from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from clop_det.probes.measures.linear import LogisticRegression, held_out_split, linear_probe


def noisy_classes(n: int, seed: int, classes: int = 5, dim: int = 20, noise: float = 2.0) -> tuple[Tensor, Tensor]:
    """Overlapping Gaussian classes with columns of very different means and scales, float64."""
    fixed = torch.Generator().manual_seed(77)
    centres = torch.randn(classes, dim, generator=fixed, dtype=torch.float64)
    scales = torch.logspace(-3, 3, dim, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (n,), generator=generator)
    x = centres[labels] + noise * torch.randn(n, dim, generator=generator, dtype=torch.float64)
    return (x + 3) * scales, labels


@pytest.mark.parametrize("l2", [1.0, 0.01, 1e-4])
@pytest.mark.parametrize("images", [400, 15])  # more than the 20 features, and fewer
def test_the_fit_is_sklearns(images: int, l2: float) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    x, y = noisy_classes(images, 0)
    test, _ = noisy_classes(200, 1)
    scaler = preprocessing.StandardScaler().fit(x.numpy())
    oracle = linear_model.LogisticRegression(C=1 / (l2 * len(x)), tol=1e-10, max_iter=5000)
    oracle.fit(scaler.transform(x.numpy()), y.numpy())
    expected = torch.from_numpy(oracle.predict_log_proba(scaler.transform(test.numpy())))
    weight, bias = LogisticRegression(x, y, 5).fit(l2, max_iterations=1000, tolerance=1e-15)
    torch.testing.assert_close((test @ weight + bias).log_softmax(dim=1), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("images", [300, 15])
def test_a_fit_that_starts_at_another_penalty_ends_at_the_same_minimum(images: int) -> None:
    x, y = noisy_classes(images, 11)
    problem = LogisticRegression(x, y, 5)
    for l2 in (1.0, 0.1, 0.01):
        weight, bias = problem.fit(l2, max_iterations=1000, tolerance=1e-12)
        fresh = LogisticRegression(x, y, 5).fit(l2, max_iterations=1000, tolerance=1e-12)
        torch.testing.assert_close(x @ weight + bias, x @ fresh[0] + fresh[1], rtol=1e-4, atol=1e-4)


def test_the_gradient_vanishes_at_the_fit() -> None:
    x, y = noisy_classes(300, 2)
    problem = LogisticRegression(x, y, 5)
    weight, bias = problem.fit(0.01, max_iterations=500)
    standard = (x - x.mean(dim=0)) / x.std(dim=0, unbiased=False)
    w = (weight * x.std(dim=0, unbiased=False)[:, None]).requires_grad_()
    b = (bias + x.mean(dim=0) @ weight).requires_grad_()
    loss = torch.nn.functional.cross_entropy(standard @ w + b, y) + 0.005 * w.square().sum()
    for gradient in torch.autograd.grad(loss, (w, b)):
        assert gradient.abs().max() < 1e-4


def test_float32_agrees_with_float64() -> None:
    x, y = noisy_classes(400, 3)
    test, truth = noisy_classes(500, 4)
    wide = linear_probe(x, y, test, truth)
    narrow = linear_probe(x.float(), y, test.float(), truth)
    assert wide["linear_l2"] == narrow["linear_l2"]
    assert wide["linear_top1"] == pytest.approx(narrow["linear_top1"], abs=0.005)
    assert 0.4 < wide["linear_top1"] < 0.9


def test_separable_classes_are_separated() -> None:
    x, y = noisy_classes(300, 5, noise=0.01)
    test, truth = noisy_classes(100, 6, noise=0.01)
    assert linear_probe(x, y, test, truth)["linear_top1"] == 1.0


@pytest.mark.parametrize("dims", [8, 300])
def test_features_without_information_give_the_commonest_class(dims: int) -> None:
    y = torch.tensor([0] * 30 + [1] * 50 + [2] * 20)
    features = torch.full((100, dims), 0.1)
    # Rounding noise in a constant column must not be blown up to unit variance.
    features[:, 0] *= 1 + 1e-7 * torch.randn(100)
    assert len(features[:, 0].unique()) > 1
    result = linear_probe(features, y, features, y)
    assert result["linear_top1"] == 0.5
    assert all(math.isfinite(value) for value in result.values())


def test_shifting_and_scaling_columns_changes_nothing() -> None:
    x, y = noisy_classes(300, 7)
    test, truth = noisy_classes(200, 8)
    scale, shift = torch.rand(20, dtype=torch.float64) + 0.5, torch.randn(20, dtype=torch.float64)
    assert linear_probe(x * scale + shift, y, test * scale + shift, truth) == linear_probe(x, y, test, truth)


def test_twice_is_bit_identical_and_leaves_the_global_generator_alone() -> None:
    x, y = noisy_classes(200, 9)
    state = torch.get_rng_state()
    first = LogisticRegression(x, y, 5).fit(0.1)
    second = LogisticRegression(x, y, 5).fit(0.1)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    linear_probe(x, y, x, y)
    assert torch.equal(torch.get_rng_state(), state)


def test_works_under_no_grad() -> None:
    x, y = noisy_classes(100, 10)
    with torch.no_grad():
        assert linear_probe(x, y, x, y)["linear_top1"] > 0.5


def test_more_dimensions_than_images() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 200, generator=generator)
    y = torch.arange(40) % 2
    x[:, 0] += 20 * y
    result = linear_probe(x, y, x, y)
    assert result["linear_top1"] == 1.0


def test_a_weak_direction_beside_a_strong_one_counts_however_few_the_images() -> None:
    """Collapsed features: every column is nearly the same number, and the class is in what is left."""
    generator = torch.Generator().manual_seed(0)
    classes, images, dims = 3, 300, 1000
    signal = torch.randn(classes, dims, generator=generator)
    labels = torch.arange(images) % classes
    common = torch.randn(images, 1, generator=generator)
    features = common + 0.002 * (signal[labels] + 0.3 * torch.randn(images, dims, generator=generator))
    half = images // 2
    narrow = linear_probe(features[:half], labels[:half], features[half:], labels[half:])
    wide = linear_probe(features[:half].double(), labels[:half], features[half:].double(), labels[half:])
    assert narrow == wide
    assert narrow["linear_top1"] > 0.9


def test_the_penalty_is_chosen_on_training_features_alone() -> None:
    x, y = noisy_classes(60, 11, dim=50)
    test, truth = noisy_classes(2000, 12, dim=50)
    chosen = linear_probe(x, y, test, truth)["linear_l2"]
    assert linear_probe(x, y, test, (truth + 1) % 5)["linear_l2"] == chosen
    # 60 images in 50 dimensions overfit without a penalty, so a choice among a useless and a useful one must see that.
    assert linear_probe(x, y, test, truth, l2_grid=(1e-6, 0.3))["linear_l2"] == 0.3


def test_held_out_split_is_stratified_and_spares_single_images() -> None:
    labels = torch.tensor([0] * 50 + [1] * 10 + [2] * 2 + [3])
    mask = held_out_split(labels)
    assert [int(mask[labels == c].sum()) for c in range(4)] == [10, 2, 1, 0]
    assert torch.equal(mask, held_out_split(labels))
    # Not simply the first ones of each class.
    assert not bool(mask[:10].all())


def test_one_image_a_class_takes_the_largest_penalty() -> None:
    x = torch.eye(4)
    assert linear_probe(x, torch.arange(4), x, torch.arange(4)) == {"linear_top1": 1.0, "linear_l2": 1.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_features": torch.ones(3, 9)}, "train_features have 4 dimensions but test_features 9"),
        ({"train_features": torch.full((6, 4), math.inf)}, "train_features must be finite"),
        ({"train_labels": torch.tensor([0, 1, 0, 1, 0, -1])}, "train_labels must be >= 0"),
        ({"test_labels": torch.zeros(2).long()}, r"test_labels must have shape \(3,\)"),
        ({"l2_grid": ()}, "l2_grid must be one or more numbers > 0"),
        ({"l2_grid": (0.1, 0.0)}, "l2_grid must be"),
    ],
)
def test_bad_input_is_named(changes: dict[str, object], message: str) -> None:
    good: dict[str, object] = {
        "train_features": torch.rand(6, 4), "train_labels": torch.arange(6) % 2, "test_features": torch.rand(3, 4),
        "test_labels": torch.arange(3) % 2, "l2_grid": (0.1,),
    }  # fmt: skip
    linear_probe(**good)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        linear_probe(**{**good, **changes})  # type: ignore[arg-type]
