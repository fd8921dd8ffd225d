"""SGD in one pass: which optimisers take it, and that its numbers are those of the plain steps."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.solver.build import maybe_add_gradient_clipping

from clop_det.engine.fused import fused

SHAPES = ((64, 32, 3, 3), (32, 16), (17, 5), (129,))
WHOLE_VECTORS = 2  # the first ones have a multiple of 16 numbers


def _trained(
    use_fused: bool, clipped: bool, layout: torch.memory_format, **settings: float | bool
) -> list[torch.Tensor]:
    """The parameters after eight steps of SGD along gradients that are drawn."""
    generator = torch.Generator().manual_seed(3)

    def drawn(shape: tuple[int, ...]) -> torch.Tensor:
        values = torch.randn(shape, generator=generator)
        return values.contiguous(memory_format=layout) if len(shape) == 4 else values

    parameters = [torch.nn.Parameter(drawn(shape)) for shape in SHAPES]
    groups = [{"params": parameters[:2]}, {"params": parameters[2:], "weight_decay": 0.0}]
    cfg = get_cfg()
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = clipped
    optimizer = maybe_add_gradient_clipping(cfg, torch.optim.SGD(groups, **settings))  # type: ignore[arg-type]
    if use_fused:
        fused(optimizer)
        assert all(group["fused"] for group in optimizer.param_groups)
    for _ in range(8):
        for parameter in parameters:
            parameter.grad = drawn(tuple(parameter.shape))
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


@pytest.mark.parametrize("clipped", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("foreach", [False, True])
def test_one_pass_gives_the_numbers_of_the_plain_steps(
    foreach: bool, nesterov: bool, layout: torch.memory_format, clipped: bool
) -> None:
    settings = {"lr": 0.06, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": nesterov}
    plain = _trained(False, clipped, layout, foreach=foreach, **settings)
    in_one_pass = _trained(True, clipped, layout, **settings)
    for place, (ours, theirs) in enumerate(zip(in_one_pass, plain, strict=True)):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0 if place < WHOLE_VECTORS else 1e-6)


def test_other_optimisers_and_complex_numbers_are_left_alone() -> None:
    adam = fused(torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))]))
    assert not adam.param_groups[0]["fused"]
    sgd = fused(torch.optim.SGD([torch.nn.Parameter(torch.ones(3, dtype=torch.complex64))], lr=0.1))
    assert not sgd.param_groups[0]["fused"]
