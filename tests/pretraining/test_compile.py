"""SOLVER.COMPILE: the same run as without, and clear errors where it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from clop_det.commands.pretrain import main
from clop_det.engine import compiler
from clop_det.engine.compiler import check_compiler, compiler_errors_named
from clop_det.engine.metrics import read_metrics
from clop_det.errors import UserError

from .conftest import arguments, same_files

KEYS = ("total_loss", "gradient_norm")


def test_a_missing_compiler_is_one_error_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"no C\+\+ compiler \(no-such-compiler\).*SOLVER\.COMPILE False"):
        check_compiler(torch.device("cpu"))
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"triton.*SOLVER\.COMPILE False"):
        check_compiler(torch.device("cuda"))


def test_a_run_without_a_compiler_writes_no_checkpoint(
    tmp_path: Path, tiny_options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"no C\+\+ compiler"):
        main(arguments(tmp_path / "run", [*tiny_options, "SOLVER.COMPILE", "True"]))
    assert not list((tmp_path / "run").glob("*.pth"))
    assert not (tmp_path / "run").exists()


def test_what_the_compiler_raises_is_one_line() -> None:
    def broken(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> None:
        raise RuntimeError("cannot lower this\nmany more lines")

    compiled = torch.compile(lambda tensor: tensor + 1, backend=broken)
    failed = r"torch\.compile failed .*SOLVER\.COMPILE False"
    with pytest.raises(UserError, match=failed) as caught, compiler_errors_named():
        compiled(torch.ones(2))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_compiled_run_is_the_eager_one_to_rounding_and_resumes_exactly(
    tmp_path: Path, tiny_options: list[str]
) -> None:
    # Steps so small that rounding does not grow: at a rate that trains, it grows several times a step.
    options = [*tiny_options, "SOLVER.MAX_ITER", "6", "SOLVER.CHECKPOINT_PERIOD", "3", "SOLVER.BASE_LR", "1e-6"]
    options += ["SOLVER.PRECISION", "fp32"]
    compiled = [*options, "SOLVER.COMPILE", "True"]
    assert main(arguments(tmp_path / "eager", options)) == 0
    assert main(arguments(tmp_path / "whole", compiled)) == 0
    eager, whole = (
        [line[key] for line in read_metrics(tmp_path / name) if "total_loss" in line for key in KEYS]
        for name in ("eager", "whole")
    )
    assert len(eager) >= 6
    assert whole == pytest.approx(eager, rel=1e-3)
    assert main(arguments(tmp_path / "halves", compiled)) == 0
    halves = tmp_path / "halves"
    for path in [*halves.glob("model_final*"), *halves.glob("model_0000005*")]:
        path.unlink()
    (halves / "last_checkpoint").write_text("model_0000002.pth")
    assert main(arguments(halves, compiled, "--resume")) == 0
    same_files(tmp_path / "whole", halves)
