from __future__ import annotations

import pytest
import torch

from clop_det.conversion.contents import check_finite
from clop_det.errors import UserError


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_diverged_weights_are_refused(value: float):
    with pytest.raises(UserError, match=r"layer1\.x.*diverged"):
        check_finite({"layer1.x": torch.tensor([1.0, value]), "y": torch.ones(1)})
