from __future__ import annotations

import torch

from clop_det.engine.seeding import derive_seed, generator


def test_seeds_are_the_same_on_every_machine() -> None:
    # SHA-256 of "0/str:augment/int:3", first 8 bytes, as a 63-bit number.
    import hashlib

    expected = int(hashlib.sha256(b"0/str:augment/int:3").hexdigest()[:16], 16) // 2
    assert derive_seed(0, "augment", 3) == expected < 2**63


def test_neighbouring_arguments_give_unrelated_seeds() -> None:
    seeds = {derive_seed(seed, name, i) for seed in range(5) for name in ("a", "b") for i in range(100)}
    assert len(seeds) == 1000
    assert derive_seed(0, 1) != derive_seed(0, "1") != derive_seed(1, 0)


def test_generators_restart_from_their_names() -> None:
    first, second = (torch.rand(4, generator=generator(7, "x", 1)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, torch.rand(4, generator=generator(7, "x", 2)))
