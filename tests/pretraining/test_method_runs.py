"""Every method as a run of a small network: killed and resumed exactly, its state in the checkpoint, converted."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from detectron2.modeling import BACKBONE_REGISTRY
from torch import Tensor

from clop_det import keys
from clop_det.backbones.registry import BACKBONES
from clop_det.commands.pretrain import main
from clop_det.conversion.convert import convert_checkpoint
from clop_det.engine.metrics import read_metrics
from clop_det.methods import METHODS

from .conftest import ROOT, arguments, crash, same_files

SHIPPED = [name for name in METHODS.names() if METHODS.entry(name).module.startswith("clop_det.")]
SHORT = [
    *("ENCODER.ARCH", "tiny16", "SOLVER.MAX_ITER", "5", "SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.PRECISION", "fp32"),
    *("SOLVER.WARMUP_ITERS", "0", "TEST.EVAL_PERIOD", "0", "PROBE.ENABLED", "False"),
]
TEACHERS = ("byol", "dense", "dino", "moco_v2", "moco_v3")
PULL = ["LOSS.NAME", "prototype_pull"]
# CLOP's pull on the embeddings of every method, and options with which five steps of eight images meet everything: a
# queue that overflows, a loss that counts steps, a temperature that rises, ...
OPTIONS: dict[str, list[str]] = {
    "single": ["LOSS.NAME", "clop", "LOSS.CLOP.BASE", "lejepa"],
    "fixmatch": ["LOSS.NAME", "clop", "LOSS.CLOP.BASE", "fixmatch_prototypes"],
    "simmatch": [*PULL, *("METHOD.SIMMATCH.BANK", "7", "METHOD.SIMMATCH.THRESHOLD", "0.3")],
    "byol": PULL,
    "moco_v2": [*PULL, "METHOD.MOCO_V2.QUEUE", "20"],
    "moco_v3": PULL,
    "dense": [
        *(*PULL, "METHOD.DENSE.QUEUE", "20", "METHOD.DENSE.STAGE", "stage2"),
        *("METHOD.DENSE.GRID", "2", "METHOD.DENSE.MATCH", "location"),
    ],
    "dino": [
        *(*PULL, "METHOD.DINO.PROTOTYPES", "10", "METHOD.DINO.LOCAL_VIEWS", "2", "METHOD.DINO.LOCAL_SIZE", "16"),
        *("METHOD.DINO.FREEZE", "0.3", "METHOD.DINO.WARMUP", "0.9"),
    ],
}
# What a step depends on beside weights that are trained: the checkpoint must hold it as it has become.
STATE: dict[str, list[str]] = {
    "dense": ["queue.rows", "queue.place", "dense_queue.rows", "dense_queue.place", "teacher_projector.0.weight"],
    "dino": ["centre", "progress", "teacher_head.weight"],
    "moco_v2": ["queue.rows", "queue.place"],
    "simmatch": ["bank.rows", "bank.place", "bank_labels.rows", "bank_labels.place", "guesses.rows"],
    "single": ["loss.base.step"],
}


@pytest.fixture(autouse=True, scope="module")
def _tiny_networks() -> Iterator[None]:
    """The family of examples/my_backbone, for this module alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BACKBONES, "_entries", dict(BACKBONES._entries))
        patch.setattr(BACKBONE_REGISTRY, "_obj_map", dict(BACKBONE_REGISTRY._obj_map))
        patch.setattr(keys, "_DECLARED", dict(keys._DECLARED))
        path = ROOT / "examples" / "my_backbone" / "my_backbone.py"
        spec = importlib.util.spec_from_file_location("my_backbone", path)
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        yield


def options_of(method: str, tiny_options: list[str]) -> list[str]:
    options = [*tiny_options, *SHORT, "METHOD.NAME", method, *OPTIONS[method]]
    return options if method in ("single", "fixmatch") else [*options, f"METHOD.{method.upper()}.LOSS_WEIGHT", "0.5"]


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory: pytest.TempPathFactory, tiny_options: list[str]) -> Callable[[str], Path]:
    """From a method's name to the folder of a run of it without a break."""

    @cache
    def folder(method: str) -> Path:
        made = tmp_path_factory.mktemp(method) / "whole"
        assert main(arguments(made, options_of(method, tiny_options))) == 0
        return made

    return folder


@pytest.fixture(params=SHIPPED)
def run(request: pytest.FixtureRequest, whole_runs: Callable[[str], Path]) -> tuple[str, Path]:
    return request.param, whole_runs(request.param)


def state_of(folder: Path, name: str = "model_final.pth") -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(folder / name, weights_only=True)["model"]
    return found


def test_killed_and_resumed_it_ends_alike_to_the_last_bit(
    run: tuple[str, Path], tiny_options: list[str], tmp_path: Path
) -> None:
    method, whole = run
    options = options_of(method, tiny_options)
    crash(tmp_path / "parts", options, 3)
    assert main(arguments(tmp_path / "parts", options, "--resume")) == 0
    same_files(whole, tmp_path / "parts")


def test_the_checkpoint_holds_what_the_next_step_depends_on(run: tuple[str, Path]) -> None:
    method, folder = run
    early, late = state_of(folder, "model_0000001.pth"), state_of(folder)
    for name in [*STATE.get(method, []), *["paired.backbone.stem.0.weight"] * (method in TEACHERS)]:
        assert not torch.equal(early[name], late[name]), name


def test_clop_s_pull_stands_beside_the_method_s_own_terms(run: tuple[str, Path]) -> None:
    line = read_metrics(run[1])[-1]
    assert line["loss_prototype_pull"] > 0
    assert len([key for key in line if key.startswith("loss_")]) > 1


def assert_converted(folder: Path, output: Path) -> None:
    """The detector's backbone is the encoder, tensor by tensor."""
    report = convert_checkpoint(folder / "model_final.pth", output, verify=False)
    assert report.source == "clop_det"
    prefix = "encoder.backbone."
    encoder = {name.removeprefix(prefix): value for name, value in state_of(folder).items() if name.startswith(prefix)}
    converted = torch.load(output, weights_only=True)["model"]
    assert {name.removeprefix("tiny.") for name in converted} == {
        name for name in encoder if not name.endswith("num_batches_tracked")
    }
    assert all(torch.equal(value, encoder[name.removeprefix("tiny.")]) for name, value in converted.items())


def test_the_detector_gets_the_encoder(run: tuple[str, Path], tmp_path: Path) -> None:
    assert_converted(run[1], tmp_path / "d2.pth")


@pytest.mark.parametrize("method", TEACHERS)
def test_a_key_chooses_the_network_and_leaves_the_training_as_it_is(
    method: str, whole_runs: Callable[[str], Path], tiny_options: list[str], tmp_path: Path
) -> None:
    """PROBED exchanges `encoder`, which is probed and converted, and `paired`; no other bit changes."""
    other = "student" if method == "dino" else "teacher"
    options = [*options_of(method, tiny_options), f"METHOD.{method.upper()}.PROBED", other]
    assert main(arguments(tmp_path / "run", options)) == 0
    first, second = state_of(whole_runs(method)), state_of(tmp_path / "run")
    exchanged = {"encoder": "paired", "paired": "encoder"}
    for name, value in first.items():
        head, _, rest = name.partition(".")
        assert torch.equal(second[f"{exchanged.get(head, head)}.{rest}" if rest else name], value), name
    name = "backbone.stage4.0.weight"
    assert not torch.equal(first[f"encoder.{name}"], first[f"paired.{name}"])
    assert_converted(tmp_path / "run", tmp_path / "d2.pth")
