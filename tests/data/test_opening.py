from __future__ import annotations

import torch

from clop_det.data.opening import probe_indices

LABELS = torch.tensor([2, -1, 0, 1, 1, -1, 0, 2] * 10)
LABELLED = (LABELS >= 0).nonzero().view(-1)


def test_without_a_limit_a_probe_uses_every_labelled_image() -> None:
    for limit in (0, len(LABELLED), 1000):
        assert torch.equal(probe_indices(LABELS, limit), LABELLED)


def test_a_limit_is_a_sorted_subset_that_follows_seed_and_purpose_alone() -> None:
    chosen = probe_indices(LABELS, 20, seed=3)
    assert len(chosen) == 20
    assert bool(torch.isin(chosen, LABELLED).all())
    assert bool((chosen.diff() > 0).all())
    assert torch.equal(chosen, probe_indices(LABELS, 20, seed=3))
    assert not torch.equal(chosen, probe_indices(LABELS, 20, seed=4))
    assert not torch.equal(chosen, probe_indices(LABELS, 20, seed=3, purpose="probe queries"))
    assert torch.isin(probe_indices(LABELS, 10, seed=3), chosen).all()  # a smaller limit is part of a larger
