from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clop_det.probes.encoding import encode_images, run_probes
from clop_det.probes.measures.geometry import geometry
from clop_det.probes.measures.knn import knn_top1
from clop_det.probes.measures.linear import linear_probe
from clop_det.probes.measures.spectrum import rankme


def images(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noise images whose class is a brighter quadrant."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 150, (n, 3, 8, 8), generator=generator)
    labels = torch.randint(0, 4, (n,), generator=generator)
    for i, label in enumerate(labels.tolist()):
        row, column = divmod(label, 2)
        pixels[i, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 8
    return pixels.to(torch.uint8), labels


def encode(batch: Tensor) -> Tensor:
    assert batch.dtype == torch.uint8
    return torch.nn.functional.avg_pool2d(batch.float() / 255 - 0.3, 2).flatten(1)


def test_every_figure_is_its_own_measure() -> None:
    bank, bank_labels = images(260, 0)
    queries, query_labels = images(90, 1)
    results = run_probes(encode, bank, bank_labels, queries, query_labels, ks=(20, 200), batch_size=64)
    x, t = encode(bank), encode(queries)
    nearest = knn_top1(x, bank_labels, t, query_labels, (20, 200))
    expected = {"knn_top1": nearest[20], "knn200_top1": nearest[200], "rankme": rankme(x)}
    expected |= linear_probe(x, bank_labels, t, query_labels)
    expected |= geometry(x, bank_labels)
    assert results == expected
    assert results["knn_top1"] != results["knn200_top1"]
    assert all(type(value) is float for value in results.values())
    assert {"knn_top1", "knn200_top1", "linear_top1", "rankme"} <= set(results)


def test_the_first_k_is_the_headline() -> None:
    bank, labels = images(60, 2)
    results = run_probes(encode, bank, labels, bank, labels, ks=(1, 7))
    assert results["knn_top1"] == 1.0  # each image is its own nearest neighbour
    assert "knn7_top1" in results


def test_neither_the_batch_size_nor_the_global_generator_matters() -> None:
    bank, bank_labels = images(100, 3)
    queries, query_labels = images(50, 4)
    torch.manual_seed(1)
    first = run_probes(encode, bank, bank_labels, queries, query_labels, ks=(5,), batch_size=7)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert run_probes(encode, bank, bank_labels, queries, query_labels, ks=(5,), batch_size=1000) == first
    assert torch.equal(torch.get_rng_state(), state)


def test_a_collapsed_encoder_is_measured_not_refused() -> None:
    bank, labels = images(80, 5)

    def constant(batch: Tensor) -> Tensor:
        return torch.full((len(batch), 16), 0.3)

    results = run_probes(constant, bank, labels, bank, labels, ks=(5,))
    commonest = float(labels.bincount().max()) / 80
    assert results["linear_top1"] == pytest.approx(commonest)
    assert results["rankme"] == pytest.approx(1, abs=1e-4)
    zero = run_probes(lambda batch: torch.zeros(len(batch), 16), bank, labels, bank, labels, ks=(5,))
    assert zero["rankme"] == 0


def test_a_single_class_has_accuracies_but_no_geometry() -> None:
    bank, _ = images(30, 6)
    results = run_probes(encode, bank, torch.zeros(30).long(), bank, torch.zeros(30).long(), ks=(5,))
    assert results["knn_top1"] == results["linear_top1"] == 1.0
    assert "nc1" not in results


def test_bad_input_is_named() -> None:
    bank, labels = images(10, 7)
    with pytest.raises(ValueError, match="images must hold at least one image"):
        encode_images(encode, bank[:0])
    with pytest.raises(ValueError, match="batch_size must be >= 1, but is 0"):
        encode_images(encode, bank, 0)
    with pytest.raises(ValueError, match=r"encode must return \(10, D\) for 10 images, but returned \(10, 3, 8, 8\)"):
        encode_images(lambda batch: batch.float(), bank)
    with pytest.raises(ValueError, match="bank_labels must be >= 0"):
        run_probes(encode, bank, labels - 9, bank, labels, ks=(1,))
    with pytest.raises(ValueError, match="bank must be finite"):
        run_probes(lambda batch: encode(batch) / 0, bank, labels, bank, labels, ks=(1,))


@pytest.mark.gpu
def test_features_on_a_gpu_give_the_same_figures() -> None:
    bank, bank_labels = images(260, 0)
    queries, query_labels = images(90, 1)
    here = run_probes(encode, bank, bank_labels, queries, query_labels, ks=(5, 20))
    there = run_probes(lambda batch: encode(batch).cuda(), bank, bank_labels, queries, query_labels, ks=(5, 20))
    assert there == pytest.approx(here, rel=1e-3, abs=2 / 90)
