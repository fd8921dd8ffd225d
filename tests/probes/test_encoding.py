from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clop_det.errors import UserError
from clop_det.probes import limits
from clop_det.probes.encoding import encode_images, encode_sets
from clop_det.probes.limits import bank_bytes, check_bank


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


def test_both_sets_are_encoded_in_order_whatever_the_batch_size() -> None:
    bank, queries = images(100, 3), images(50, 4)
    state = torch.get_rng_state()
    for size in (7, 1000):
        data = encode_sets(encode, bank, queries, size, project=lambda features: features[:, :2])
        assert torch.equal(data.bank, encode(bank[0]))
        assert torch.equal(data.queries, encode(queries[0]))
        assert data.bank_labels is bank[1]
        assert data.query_labels is queries[1]
        assert data.embeddings is not None
        assert torch.equal(data.embeddings, data.bank[:, :2])
    assert torch.equal(torch.get_rng_state(), state)
    assert encode_sets(encode, bank, queries).embeddings is None


def test_bad_input_is_named() -> None:
    bank, _ = images(10, 7)
    with pytest.raises(ValueError, match="images must hold at least one image"):
        encode_images(encode, bank[:0])
    with pytest.raises(ValueError, match="batch_size must be >= 1, but is 0"):
        encode_images(encode, bank, 0)
    with pytest.raises(ValueError, match=r"encode must return \(10, D\) for 10 images, but returned \(10, 3, 8, 8\)"):
        encode_images(lambda batch: batch.float(), bank)


def test_a_bank_that_does_not_fit_is_refused_after_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = []
    monkeypatch.setattr(limits, "memory_of", lambda device: bank_bytes(60, 48, 4))
    with pytest.raises(UserError, match=r"bank holds 100 images: with 48 features .* Set PROBE\.MAX_BANK 60, which"):
        encode_sets(lambda batch: encoded.append(1) or encode(batch), images(100, 3), images(50, 4), 10)
    assert len(encoded) == 1
    assert len(encode_sets(encode, images(60, 3), images(500, 4), 10).queries) == 500


def test_the_estimate_is_in_bytes_and_the_remedy_fits() -> None:
    """ImageNet's training images and a ResNet-50 need about 115 GB."""
    count, dim, classes = 1_281_167, 2048, 1000
    assert 110e9 < bank_bytes(count, dim, classes) < 120e9
    assert bank_bytes(100, 8, 1000) > bank_bytes(100, 8, 10)
    cpu = torch.device("cpu")
    with pytest.raises(UserError) as error:
        check_bank(10**9, dim, classes, cpu)
    fits = int(str(error.value).split("PROBE.MAX_BANK ")[1].split(",")[0])
    check_bank(fits, dim, classes, cpu)
    assert limits.memory_of(cpu) < bank_bytes(2 * fits, dim, classes)
