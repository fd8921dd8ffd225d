"""Seeds derived from names, so that everything random in a run is a function of (seed, purpose, iteration)."""

from __future__ import annotations

import hashlib

import torch


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for one purpose, e.g. `derive_seed(cfg.SEED, "augment", iteration)`.

    Built on SHA-256: the same on every machine, and unrelated for neighbouring arguments.
    """
    text = "/".join([str(int(seed)), *(f"{type(name).__name__}:{name}" for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """A fresh CPU generator seeded by `derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(seed, *names))
