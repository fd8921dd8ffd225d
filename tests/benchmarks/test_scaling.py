"""The scaling model: closed forms, what it counts on the package's own modules, and the page that shows it."""

from __future__ import annotations

from pathlib import Path

import pytest
import scaling
import torch
from torch.utils.flop_counter import FlopCounterMode

from clop_det.losses import build_loss

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scaling.md"
SMALL = scaling.Case("small", "resnet18", 512, "imagenet", 32, 64, "card")
PARALLEL = ("gathering", "gradients, not hidden", "BatchNorm over GPUs")


def test_one_gpu_communicates_nothing() -> None:
    parts = scaling.terms(SMALL, scaling.Machine(), 1)
    assert [parts[name] for name in PARALLEL] == [0, 0, 0]
    assert scaling.step_seconds(parts) == parts["network"] + parts["similarities"]


def test_bytes_of_the_collectives() -> None:
    assert scaling.gathered_bytes(32, 128, 2) == 32 * (2 * 128 * 4 + 2 * 4 + 8)  # the other's rows, sums and labels
    assert scaling.gathered_bytes(32, 128, 5) == 4 * scaling.gathered_bytes(32, 128, 2)
    assert scaling.reduced_bytes(1000, 2) == 1000
    assert scaling.reduced_bytes(1000, 10**9) == pytest.approx(2000)


def test_a_link_that_is_never_the_limit_leaves_the_products_alone() -> None:
    free = scaling.Machine(inside=1e30, adapter=1e30, latency=(0.0, 0.0))
    alone, many = (scaling.terms(SMALL, free, world) for world in (1, 64))
    assert sum(many[name] for name in PARALLEL) == pytest.approx(0, abs=1e-15)
    assert many["network"] == alone["network"]
    assert many["similarities"] == pytest.approx(64 * 3 / 2 * alone["similarities"])


def test_the_products_are_those_of_the_loss() -> None:
    loss = build_loss("info_nce", {"info_nce": {"TEMPERATURE": 0.2}}, 1, 16)
    embeddings = torch.randn(48, 16, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        sum(loss.parts(embeddings, torch.full((24,), -1)).values()).backward()
    # One of the two is added in place, which the counter does not know.
    assert 2 * counter.get_total_flops() == scaling.similarity_operations(24, 16, 1)


def test_operations_of_a_known_network() -> None:
    whole = scaling.Case("", "resnet50", 2048, "imagenet", 224, 1, "store")
    assert whole.operations == pytest.approx(2 * 3 * 2 * 4.1e9, rel=0.03)  # views, passes, operations of a product
    assert whole.norms == 53 + 1
    assert whole.parameters == 23_508_032 + 2048 * 2048 + 2 * 2048 + 2048 * 128 + 128


def test_reading_goes_on_beside_the_step() -> None:
    streamed = scaling.Case("", "resnet18", 512, "imagenet", 32, 64, "stream")
    quick, slow = (scaling.terms(streamed, scaling.Machine(decoded=rate), 1) for rate in (1e9, 1.0))
    assert scaling.step_seconds(quick) == quick["network"] + quick["similarities"]
    assert scaling.step_seconds(slow) == pytest.approx(64 / 14)


def test_the_page_has_these_tables() -> None:
    text = PAGE.read_text()
    for case in scaling.CASES:
        assert scaling.table(case) in text, f"put what `python benchmarks/scaling.py` prints into {PAGE.name}"
