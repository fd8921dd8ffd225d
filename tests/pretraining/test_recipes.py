"""Every recipe of configs/pretrain: it parses, builds, and takes two steps with every loss on data in its layout."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode

from clop_det.commands.pretrain import main
from clop_det.config.reading import read_config
from clop_det.files import read_json
from clop_det.pretraining.build import build_method, check_config
from clop_det.pretraining.data import BatchSource, PretrainData, open_data
from clop_det.pretraining.optimizers import build_optimizer
from tests import stand_ins

from .conftest import ROOT

RECIPES = ROOT / "configs" / "pretrain"
# data set of a recipe's name -> writer of stand-ins, and the smaller view that keeps the test quick
SETS: dict[str, tuple[Callable[[Path], None], int]] = {
    "cifar10": (partial(stand_ins.cifar10_python, train=10), 8),
    "cifar100": (partial(stand_ins.cifar100_binary, train=100), 8),
    "stl10": (stand_ins.stl10, 32),
    "tiny_imagenet": (stand_ins.tiny_imagenet, 8),
    "imagenet": (partial(stand_ins.imagenet, flat=True), 32),
}
LOSSES = {
    "info_nce": ["LOSS.NAME", "info_nce"],
    "supcon": ["LOSS.NAME", "supcon"],
    "clop over info_nce": ["LOSS.NAME", "clop", "LOSS.CLOP.BASE", "info_nce"],
    "clop over supcon": ["LOSS.NAME", "clop", "LOSS.CLOP.BASE", "supcon"],
    "vicreg": ["LOSS.NAME", "vicreg"],
    "barlow_twins": ["LOSS.NAME", "barlow_twins"],
    "cross_entropy": ["LOSS.NAME", "cross_entropy"],
}
PAPER = {"cifar10": (0.5, 128), "cifar100": (0.2, 128), "tiny_imagenet": (0.1, 256), "imagenet": (0.1, 1024)}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for name, (write, _) in SETS.items():
        found[name] = tmp_path_factory.mktemp(name)
        write(found[name])
    return found


def _options(name: str, roots: dict[str, Path]) -> list[str]:
    """What makes a recipe small; ImageNet still streams."""
    size = SETS[name][1]
    limit = "16" if name == "imagenet" else "96"
    return [
        *("CLASSIFICATION.ROOT", str(roots[name]), "CLASSIFICATION.IMAGE_SIZE", str(size)),
        *("CLASSIFICATION.STORE_MAX_SIZE", limit, "SOLVER.IMS_PER_BATCH", "8", "SOLVER.PRECISION", "fp32"),
        *("DATALOADER.NUM_WORKERS", "0", "MODEL.DEVICE", "cpu", "PROJECTOR.HIDDEN_DIM", "32"),
    ]


def _two_steps(cfg: CfgNode, data: PretrainData) -> None:
    check_config(cfg)
    torch.manual_seed(0)
    model = build_method(cfg, len(data.train.classes), torch.device("cpu"))
    optimizer = build_optimizer(cfg, model)
    batches = BatchSource(cfg, data)
    weight = next(model.encoder.parameters())
    before = weight.detach().clone()
    for iteration in range(2):
        loss = sum(model(*batches(iteration)).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss)
    if cfg.LOSS.NAME != "cross_entropy":  # a batch of 8 may hold no labelled image: no gradient then
        assert not torch.equal(weight, before)


def _every_loss(arch: str, name: str, roots: dict[str, Path], losses: dict[str, list[str]]) -> None:
    recipe = str(RECIPES / f"{arch}_{name}.yaml")
    data = None
    for options in losses.values():
        cfg = read_config(recipe, [*_options(name, roots), *options])
        assert arch == cfg.ENCODER.ARCH
        data = data or open_data(cfg)
        _two_steps(cfg, data)


@pytest.mark.parametrize("name", SETS)
def test_two_steps_of_resnet18_with_every_loss(name: str, roots: dict[str, Path]) -> None:
    _every_loss("resnet18", name, roots, LOSSES)


@pytest.mark.parametrize("name", SETS)
def test_two_steps_of_resnet50(name: str, roots: dict[str, Path]) -> None:
    _every_loss("resnet50", name, roots, {"clop": []})


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_two_steps_of_resnet50_with_every_loss(name: str, roots: dict[str, Path]) -> None:
    _every_loss("resnet50", name, roots, LOSSES)


def test_the_command_runs_a_streaming_recipe(roots: dict[str, Path], tmp_path: Path) -> None:
    options = [*_options("imagenet", roots), "DATALOADER.NUM_WORKERS", "1", "SOLVER.MAX_ITER", "2"]
    options += ["SOLVER.WARMUP_ITERS", "0", "PROBE.KNN.K", "(2,)", "OUTPUT_DIR", str(tmp_path / "run")]
    assert main(["--config-file", str(RECIPES / "resnet18_imagenet.yaml"), *options]) == 0
    assert {"knn_top1", "linear_top1"} <= set(read_json(tmp_path / "run" / "results.json")["metrics"])
    assert "16 images of" in (tmp_path / "run" / "log.txt").read_text()


def test_every_recipe_is_tested_or_has_its_data_at_hand() -> None:
    tested = {f"{arch}_{name}" for arch in ("resnet18", "resnet50") for name in SETS}
    names = {path.stem for path in RECIPES.glob("*.yaml") if not path.stem.startswith("Base-")}
    assert tested <= names
    for name in names - tested:  # on images that this project has or generates
        cfg = read_config(str(RECIPES / f"{name}.yaml"), ["MODEL.DEVICE", "cpu"])
        check_config(cfg)
        build_method(cfg, 3, torch.device("cpu"))


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_temperature_and_dimension(name: str) -> None:
    cfg = read_config(str(RECIPES / f"resnet50_{name}.yaml"), [])
    temperature, dimension = PAPER[name]
    assert dimension == cfg.PROJECTOR.OUT_DIM
    assert [cfg.LOSS[base].TEMPERATURE for base in ("INFO_NCE", "SUPCON", "DCL")] == [temperature] * 3
    assert cfg.LOSS.CLOP.WEIGHT == 1.0


def test_the_hundred_classes_are_stored_and_run_for_whole_epochs() -> None:
    cfg = read_config(str(RECIPES / "resnet50_imagenet100.yaml"), [])
    assert cfg.CLASSIFICATION.IMAGE_SIZE <= cfg.CLASSIFICATION.STORE_MAX_SIZE
    assert cfg.SOLVER.MAX_ITER == 200 * (126_689 // cfg.SOLVER.IMS_PER_BATCH)
    assert cfg.SOLVER.MAX_ITER % cfg.SOLVER.CHECKPOINT_PERIOD == cfg.SOLVER.MAX_ITER % cfg.TEST.EVAL_PERIOD == 0
