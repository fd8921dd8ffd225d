"""Methods from outside the package: trained, resumed exactly, shared by processes and converted."""

from __future__ import annotations

import copy
import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clop_det import keys
from clop_det.commands.pretrain import main
from clop_det.config.reading import read_config
from clop_det.conversion.convert import convert_checkpoint
from clop_det.data.views import ViewGroup, Views
from clop_det.engine.metrics import read_metrics
from clop_det.errors import UserError
from clop_det.files import read_json
from clop_det.keys import between
from clop_det.methods import METHODS, Method, MethodContext, build_projector, register_method
from clop_det.pretraining.build import build_method
from tests.processes import run_all

from .conftest import BASE_CONFIG, ROOT, arguments, crash, same_files
from .test_ranks import assert_same_curve, rank_main, run_one

SHORT = ["SOLVER.MAX_ITER", "4", "SOLVER.CHECKPOINT_PERIOD", "2", "TEST.EVAL_PERIOD", "2"]


def import_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("two_heads", ROOT / "examples" / "my_method" / "two_heads.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def register_byol() -> None:
    """BYOL (Grill et al. 2020) as a user would write it."""

    @register_method("byol_of_test", {"MOMENTUM": ("Share of the target that a step keeps.", between(0, 1))})
    class Byol(Method):
        def __init__(self, context: MethodContext, momentum: float = 0.9) -> None:
            super().__init__(context)
            dim = self.encoder.embedding_dim
            self.predictor = build_projector(dim, 16, dim)
            self.target = copy.deepcopy(self.encoder)
            self.momentum = momentum

        @property
        def trained(self) -> tuple[nn.Module, ...]:
            return self.encoder, self.predictor

        def step(self, views: Views, labels: Tensor) -> dict[str, Tensor]:
            embeddings = self.embed(views.stacked)
            self.latest_embeddings = embeddings.detach()
            with torch.no_grad():
                first, second = self.encode(views.stacked, self.target)[1].chunk(2)
            agreement = F.cosine_similarity(self.predictor(embeddings), torch.cat([second, first]))
            return {"byol": 2 - 2 * agreement.mean()}

        @torch.no_grad()
        def after_step(self, progress: float) -> None:
            keep = 1 - (1 - self.momentum) * (math.cos(math.pi * progress) + 1) / 2
            for target, online in zip(self.target.parameters(), self.encoder.parameters(), strict=True):
                target.lerp_(online, 1 - keep)

    @register_method("asks_for_more")
    class AsksForMore(Byol):
        views_needed = (ViewGroup(("weak", "masked")),)

        def __init__(self, context: MethodContext) -> None:
            super().__init__(context)


@pytest.fixture(autouse=True, scope="module")
def _methods() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(METHODS, "_entries", dict(METHODS._entries))
        patch.setattr(keys, "_DECLARED", dict(keys._DECLARED))
        import_example()
        register_byol()
        yield


@pytest.fixture(params=["two_heads", "byol_of_test"])
def options(request: pytest.FixtureRequest, tiny_options: list[str]) -> list[str]:
    return [*tiny_options, *SHORT, "METHOD.NAME", request.param]


def test_it_trains_and_resumes_exactly(tmp_path: Path, options: list[str]) -> None:
    assert main(arguments(tmp_path / "whole", options)) == 0
    crash(tmp_path / "parts", options, 3)
    assert main(arguments(tmp_path / "parts", options, "--resume")) == 0
    same_files(tmp_path / "whole", tmp_path / "parts")
    line = read_metrics(tmp_path / "whole")[-1]
    parts = [value for key, value in line.items() if key.startswith("loss_")]
    assert line["total_loss"] == pytest.approx(sum(parts))
    assert "embedding_rankme" in line


@pytest.fixture(scope="module")
def two_heads_run(tmp_path_factory: pytest.TempPathFactory, tiny_options: list[str]) -> Path:
    run = tmp_path_factory.mktemp("two_heads") / "run"
    assert main(arguments(run, [*tiny_options, *SHORT, "METHOD.NAME", "two_heads"])) == 0
    return run


def test_a_second_head_is_in_the_checkpoint_and_not_in_the_detector(two_heads_run: Path, tmp_path: Path) -> None:
    run = two_heads_run
    saved = torch.load(run / "model_final.pth", weights_only=True)
    assert saved["provenance"]["heads"] == ["loss", "tower"]
    assert (saved["provenance"]["method"], saved["provenance"]["loss"]) == ("two_heads", "clop")
    tower = [f"model.{name}" for name in saved["model"] if name.startswith("tower.")]
    assert len(tower) == 8
    report = convert_checkpoint(run / "model_final.pth", tmp_path / "d2.pth", verify=False)
    assert report.source == "clop_det"
    counted = [name for name in tower if not name.endswith("num_batches_tracked")]
    assert report.dropped["head of the method two_heads"] == counted
    assert report.mapped == 100
    assert read_json(run / "results.json")["init"] == "clop"


def test_a_tensor_that_is_no_declared_head_is_not_left_out(two_heads_run: Path, tmp_path: Path) -> None:
    saved = torch.load(two_heads_run / "model_final.pth", weights_only=True)
    saved["provenance"]["heads"] = ["loss"]
    torch.save(saved, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"7 tensors are neither part .*model\.tower\.0\.weight"):
        convert_checkpoint(tmp_path / "other.pth", tmp_path / "d2.pth", verify=False)


def test_a_momentum_teacher_follows_and_is_not_trained(tmp_path: Path, tiny_options: list[str]) -> None:
    options = [*tiny_options, *SHORT, "METHOD.NAME", "byol_of_test"]
    assert main(arguments(tmp_path / "run", options)) == 0
    first, last = (
        torch.load(tmp_path / "run" / name, weights_only=True) for name in ("model_0000001.pth", "model_final.pth")
    )
    name = "backbone.layer4.0.conv1.weight"
    online, target, before = (
        last["model"][f"encoder.{name}"], last["model"][f"target.{name}"], first["model"][f"target.{name}"]
    )  # fmt: skip
    assert not torch.equal(target, before)
    assert not torch.equal(target, online)
    trained = sum(tensor.dim() > 0 for tensor in last["trainer"]["optimizer"]["state"].values() for tensor in [
        tensor for tensor in tensor.values() if isinstance(tensor, Tensor)
    ])  # fmt: skip
    weights = [key for key in last["model"] if key.split(".")[0] in ("encoder", "predictor")]
    assert trained == sum(not key.endswith(("running_mean", "running_var", "tracked")) for key in weights)
    report = convert_checkpoint(tmp_path / "run" / "model_final.pth", tmp_path / "d2.pth", verify=False)
    converted = torch.load(tmp_path / "d2.pth", weights_only=True)["model"]
    assert torch.equal(converted["res5.0.conv1.weight"], online)
    assert report.mapped == 100
    # A method without LOSS.NAME's loss goes by its own name.
    assert last["provenance"]["loss"] == ""
    assert read_json(tmp_path / "run" / "results.json")["init"] == "byol_of_test"


def rank_of_two_heads(rank: int, world_size: int, port: int, argv: list[str]) -> None:
    import_example()
    rank_main(rank, world_size, port, argv)


def test_two_processes_draw_its_curve_of_one(tmp_path: Path, tiny_options: list[str], free_port: int) -> None:
    options = [*tiny_options, "METHOD.NAME", "two_heads", "SOLVER.PRECISION", "fp32", "SOLVER.BASE_LR", "0.001"]
    options += ["SOLVER.MAX_ITER", "5", "SOLVER.WARMUP_ITERS", "0", "TEST.EVAL_PERIOD", "0"]
    run_one(arguments(tmp_path / "one", options))
    argv = arguments(tmp_path / "two", options)
    assert run_all(rank_of_two_heads, [(rank, 2, free_port, argv) for rank in range(2)]) == [0, 0]
    assert_same_curve(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["METHOD.NAME", "singel"], "the method 'singel', which is not registered. Did you mean single"),
        (["METHOD.NAME", "two_heads", "SOLVER.ACCUMULATE", "2"], "SOLVER.ACCUMULATE is 2, but the method two_heads"),
        (["METHOD.NAME", "asks_for_more"], "METHOD.NAME asks_for_more needs views of the kind masked"),
        (["METHOD.NAME", "two_heads", "PROJECTOR.OUT_DIM", "2"], "LOSS.NAME clop, PROJECTOR.OUT_DIM 2: "),
        (
            ["METHOD.NAME", "two_heads", "METHOD.TWO_HEADS.OUT_DIM", "0"],
            r"METHOD\.TWO_HEADS\.OUT_DIM is 0; it must be at least 1",
        ),
    ],
)
def test_bad_input_is_one_error_and_leaves_no_folder(
    tmp_path: Path, tiny_options: list[str], pairs: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        main(arguments(tmp_path / "run", [*tiny_options, *pairs]))
    assert not (tmp_path / "run").exists()


def test_every_method_starts_from_the_same_encoder(tiny_options: list[str]) -> None:
    starts = []
    for name in ("single", "two_heads", "byol_of_test"):
        torch.manual_seed(3)
        cfg = read_config(BASE_CONFIG, [*tiny_options, "METHOD.NAME", name])
        starts.append(build_method(cfg, 3, torch.device("cpu")).encoder.state_dict())
    for other in starts[1:]:
        assert all(torch.equal(other[key], value) for key, value in starts[0].items())
