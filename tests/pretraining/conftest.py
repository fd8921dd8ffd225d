"""A tiny folder of classes and the shortest pretraining that still shows everything."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from PIL import Image

from clop_det.commands.pretrain import main
from clop_det.config.reading import read_config
from clop_det.pretraining.trainer import PretrainTrainer
from tests.unrendered import unrendered

ROOT = Path(__file__).resolve().parents[2]
BASE_CONFIG = str(ROOT / "configs" / "pretrain" / "Base-pretrain.yaml")


def arguments(output: Path, options: list[str], *flags: str) -> list[str]:
    """The command line of a run in `output`."""
    return ["--config-file", BASE_CONFIG, *flags, "OUTPUT_DIR", str(output), *options]


def read_options(*options: str) -> CfgNode:
    """The config of a run, as its command line gives it."""
    return read_config(BASE_CONFIG, options)


@pytest.fixture(autouse=True)
def _unrendered() -> Iterator[None]:
    """Runs of single tests; those that tests share are drawn."""
    with unrendered():
        yield


@pytest.fixture
def free_port() -> int:
    """A TCP port of this machine that nobody listens on just now, and the next one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def crash(output: Path, options: list[str], step: int) -> None:
    """Begin a run in `output` that fails before it takes `step` (from 0)."""
    run_step = PretrainTrainer.run_step

    def fail(self: PretrainTrainer) -> None:
        if self.iter == step:
            raise MemoryError("made up")
        run_step(self)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(MemoryError, match="made up"):
        patch.setattr(PretrainTrainer, "run_step", fail)
        main(arguments(output, options))


def same_files(first: Path, second: Path) -> None:
    """Two runs ended alike, to the last bit."""
    for name in ("metrics.json", "label_split.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    states = [torch.load(run / "model_final.pth", weights_only=True)["model"] for run in (first, second)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def write_images(root: Path, split: str, classes: int, per_class: int, size: int = 32) -> None:
    rng = np.random.default_rng(len(split))
    for label in range(classes):
        folder = root / split / f"class{label}"
        folder.mkdir(parents=True)
        for index in range(per_class):
            pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
            pixels[..., label % 3] //= 2
            Image.fromarray(pixels).save(folder / f"{index:03d}.png")


@pytest.fixture(scope="session")
def images_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    write_images(root, "train", classes=3, per_class=8)
    write_images(root, "val", classes=3, per_class=4)
    return root


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLOP_DET_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_options(images_root: Path) -> list[str]:
    """KEY VALUE pairs of a run of 12 iterations that saves every 4."""
    return [
        *("CLASSIFICATION.ROOT", str(images_root), "CLASSIFICATION.IMAGE_SIZE", "32"),
        *("SOLVER.IMS_PER_BATCH", "8", "SOLVER.MAX_ITER", "12", "SOLVER.WARMUP_ITERS", "2"),
        *("SOLVER.CHECKPOINT_PERIOD", "4", "TEST.EVAL_PERIOD", "6", "SOLVER.BASE_LR", "0.05"),
        *("PROJECTOR.HIDDEN_DIM", "16", "PROJECTOR.OUT_DIM", "8", "LABELS.FRACTION", "0.5"),
        *("PROBE.KNN.K", "(3, 5)", "MODEL.DEVICE", "cpu"),
    ]
