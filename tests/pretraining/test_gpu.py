"""Pretraining on a GPU: whole runs in each precision, one wait a step, exact repetition, two cards against one."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from clop_det.commands.pretrain import main
from clop_det.config.reading import read_config
from clop_det.data import images
from clop_det.data.augment import AugmentSettings, ViewAugmentation
from clop_det.data.view_parameters import draw_parameters
from clop_det.engine.metrics import read_metrics
from clop_det.pretraining import step as step_module
from clop_det.pretraining.data import BatchSource, open_data
from clop_det.pretraining.trainer import PretrainTrainer

from .conftest import BASE_CONFIG, ROOT, arguments, same_files

pytestmark = pytest.mark.gpu

PRECISIONS = {
    "fp32": ("SOLVER.PRECISION", "fp32"),
    "bf16": ("SOLVER.PRECISION", "bf16"),
    "fp16": ("SOLVER.AMP.ENABLED", "True"),
}
WAYS = {
    "info_nce": ("LOSS.NAME", "info_nce"),
    "clop, matched": ("LOSS.NAME", "clop", "LOSS.CLOP.ASSIGNMENT", "matched"),
    "supcon": ("LOSS.NAME", "supcon"),
    "micro-batches": ("SOLVER.ACCUMULATE", "2"),
    "LARS": ("SOLVER.OPTIMIZER", "LARS"),
}


@pytest.fixture(scope="module")
def options(tiny_options: list[str]) -> list[str]:
    return [*tiny_options, "MODEL.DEVICE", "cuda"]


@pytest.mark.parametrize("way", sorted(WAYS))
@pytest.mark.parametrize("precision", sorted(PRECISIONS))
def test_runs_end_with_finite_figures(precision: str, way: str, tmp_path: Path, options: list[str]) -> None:
    assert main(arguments(tmp_path / "run", [*options, *PRECISIONS[precision], *WAYS[way]])) == 0
    lines = read_metrics(tmp_path / "run")
    assert all(math.isfinite(value) for line in lines for value in line.values())
    assert "probe/knn_top1_k5" in lines[-1] or any(key.startswith("probe/") for key in lines[-1])


@pytest.mark.parametrize("way", sorted(WAYS))
def test_a_step_waits_for_the_device_once(
    way: str, tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA itself says what waits; the one place is allowed to."""
    cfg = read_config(BASE_CONFIG, [*arguments(tmp_path, options)[2:], *WAYS[way], "PROBE.ENABLED", "False"])
    trainer = PretrainTrainer(cfg, open_data(cfg), {})
    trainer.match_prototypes()
    asked, waited = step_module.why_not_finite, 0

    def allowed(*given: object) -> object:
        nonlocal waited
        waited += 1
        torch.cuda.set_sync_debug_mode("default")
        try:
            return asked(*given)  # type: ignore[arg-type]
        finally:
            torch.cuda.set_sync_debug_mode("error")

    for i in range(2):  # constants of the augmentation move to the device once
        trainer.step(i)
    monkeypatch.setattr(step_module, "why_not_finite", allowed)
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert trainer.step(2) is not None
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert waited == 1


def test_a_deterministic_run_resumes_to_the_same_bytes(tmp_path: Path, options: list[str]) -> None:
    options = [*options, "DETERMINISTIC", "True", "LOSS.NAME", "supcon"]
    assert main(arguments(tmp_path / "whole", options)) == 0
    assert main(arguments(tmp_path / "parts", options)) == 0
    for path in (tmp_path / "parts").glob("*"):  # as if it had been killed after eight steps
        if path.name == "results.json" or (path.name.startswith("model_") and "0000007" not in path.name):
            path.unlink()
    assert main(arguments(tmp_path / "parts", options, "--resume")) == 0
    same_files(tmp_path / "whole", tmp_path / "parts")


def test_two_cards_draw_the_loss_curve_of_one(tmp_path: Path, options: list[str]) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    options = [*options, "SOLVER.PRECISION", "fp32", "SOLVER.BASE_LR", "0.001", "SOLVER.MAX_ITER", "3"]
    assert main(arguments(tmp_path / "one", options)) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two = [*torchrun, str(ROOT / "tools" / "pretrain.py"), *arguments(tmp_path / "two", options)]
    done = subprocess.run(two, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = (read_metrics(tmp_path / name)[0]["total_loss"] for name in ("one", "two"))
    assert second == pytest.approx(first, rel=1e-3)


def test_an_error_on_rank_one_ends_both(tmp_path: Path, options: list[str]) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    broken = (
        "import os, sys; from clop_det.pretraining.data import BatchSource; call = BatchSource.__call__\n"
        "def fails(self, i):\n"
        "    if i == 3 and os.environ['RANK'] == '1': raise RuntimeError('for the test')\n"
        "    return call(self, i)\n"
        "BatchSource.__call__ = fails\n"
        "from clop_det.commands.common import run_tool; from clop_det.commands.pretrain import main; run_tool(main)\n"
    )
    (tmp_path / "broken.py").write_text(broken)
    command = [*torchrun, str(tmp_path / "broken.py"), *arguments(tmp_path / "run", options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "error: rank 1: RuntimeError: for the test" in done.stderr


def test_views_of_a_large_batch_need_little_more_than_themselves() -> None:
    augment = ViewAugmentation(AugmentSettings(blur_prob=0.5), 224, [120] * 3, [60] * 3)
    images = torch.zeros((1024, 3, 224, 224), dtype=torch.uint8, device="cuda")
    parameters = draw_parameters(augment.settings, 1024, torch.Generator().manual_seed(0)).to("cuda")
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    views = augment.apply(images, parameters)
    assert torch.cuda.max_memory_allocated() - before - views.nbytes < 4 << 30


@pytest.mark.parametrize("kept", [0.0, 1.0], ids=["read", "resident"])
@pytest.mark.parametrize("limit", ["96", "0"], ids=["stored", "streamed"])
def test_batches_that_are_read_ahead_are_those_of_the_cpu(
    limit: str, kept: float, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_SHARE_OF_DEVICE", kept)
    cfg = read_config(BASE_CONFIG, [*options, "CLASSIFICATION.STORE_MAX_SIZE", limit, "DATALOADER.NUM_WORKERS", "1"])
    data = open_data(cfg)
    there, here = BatchSource(cfg, data, device=torch.device("cuda")), BatchSource(cfg, data)
    for iteration in (0, 1, 2, 7):
        (views, labels), (expected, expected_labels) = there(iteration), here(iteration)
        assert views.pixels.device.type == "cuda"
        assert torch.equal(labels.cpu(), expected_labels)
        torch.testing.assert_close(views.boxes.cpu(), expected.boxes)
        torch.testing.assert_close(views.pixels.cpu(), expected.pixels, rtol=1e-3, atol=1e-3)


def test_the_next_batch_arrives_while_the_step_computes(options: list[str]) -> None:
    cfg = read_config(BASE_CONFIG, options)
    batches = BatchSource(cfg, open_data(cfg), device=torch.device("cuda"))
    for iteration in range(3):  # what is set up once
        batches(iteration)
    torch.cuda.synchronize()
    batches._ahead(3)
    torch.cuda._sleep(2_000_000_000)  # a second or so of the stream that computes
    busy = torch.cuda.Event()
    busy.record()
    _, _, mark = batches._ahead(4)
    assert mark is not None
    mark.synchronize()
    assert not busy.query()
