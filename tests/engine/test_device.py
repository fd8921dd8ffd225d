"""The device of a run, on a machine without one: what torch and the driver say is put in their mouths."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from clop_det.config.build import add_clop_config
from clop_det.engine.device import check_device, check_kernels, moved, runs_on, set_up_device, unused_gpus
from clop_det.errors import UserError

HOPPER = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: HOPPER)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `nvidia-smi` that lists a card."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'Tesla T4, 470.57.02'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return program


@pytest.mark.parametrize(
    ("capability", "built", "runs"),
    [
        ((7, 0), HOPPER, False),
        ((7, 5), HOPPER, True),
        ((8, 9), HOPPER, True),
        ((9, 0), ["sm_80"], False),
        ((9, 0), ["sm_80", "compute_80"], True),
        ((8, 0), ["compute_90", "sm_86"], False),
        ((9, 0), ["sm_90a"], True),
        ((9, 1), ["sm_90a"], False),
        ((12, 0), HOPPER, True),
        ((12, 0), ["sm_100", "something else"], False),
    ],
)
def test_which_kernels_run_on_a_card(capability: tuple[int, int], built: list[str], runs: bool) -> None:
    assert runs_on(capability, built) is runs


@pytest.mark.usefixtures("card")
def test_a_card_without_kernels_is_refused_with_a_build(monkeypatch: pytest.MonkeyPatch) -> None:
    check_kernels("cuda")
    check_kernels("cpu")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    with pytest.raises(UserError, match=r"Tesla V100 of compute capability 7\.0.*sm_75.*TORCH_INDEX"):
        check_kernels("cuda")


@pytest.mark.usefixtures("card")
def test_a_gpu_that_a_run_leaves_unused() -> None:
    assert unused_gpus("cuda") == ""
    assert "2 GPUs are here and unused: MODEL.DEVICE is cpu" in unused_gpus("cpu")


@pytest.mark.usefixtures("driver")
def test_a_gpu_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "Tesla T4, driver 470.57.02" in unused_gpus("cpu")
    assert "it is built without CUDA. Install another build" in unused_gpus("cpu")

    def refuse() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040). Please update it.")

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", refuse)
    assert "cannot use: The NVIDIA driver on your system is too old (found version 11040)." in unused_gpus("cpu")
    with pytest.raises(UserError, match=r"'cuda', which torch does not find.*Tesla T4"):
        check_device("cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert unused_gpus("cpu") == "", "hidden on purpose"


def test_a_driver_that_does_not_answer_is_no_gpu(driver: Path) -> None:
    driver.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed' >&2\nexit 9\n")
    assert unused_gpus("cpu") == ""


@pytest.mark.usefixtures("card")
def test_one_card_for_several_processes_is_refused() -> None:
    check_device("cuda:1")
    check_device("cuda", several=True)
    check_device("cpu", several=True)
    with pytest.raises(
        UserError, match=r"'cuda:1', one card, but there are several processes.*Set MODEL\.DEVICE cuda;"
    ):
        check_device("cuda:1", several=True)


@pytest.fixture
def settings_kept() -> Iterator[None]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    yield
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic = before
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


@pytest.mark.usefixtures("card", "settings_kept")
@pytest.mark.parametrize("chosen", [True, False])
def test_arithmetic_and_order_are_what_the_config_says(chosen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from detectron2.config import get_cfg

    cfg = get_cfg()
    add_clop_config(cfg)
    assert (cfg.SOLVER.TF32, cfg.DETERMINISTIC) == (False, False)
    cfg.MODEL.DEVICE, cfg.SOLVER.TF32, cfg.DETERMINISTIC = "cuda", chosen, chosen
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    set_up_device(cfg)
    assert torch.backends.cuda.matmul.allow_tf32 is chosen
    assert torch.backends.cudnn.allow_tf32 is chosen
    assert torch.backends.cudnn.deterministic is chosen
    assert torch.are_deterministic_algorithms_enabled() is chosen
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) is chosen


def test_on_the_host_nothing_is_copied() -> None:
    tensor = torch.arange(3)
    assert moved(tensor, torch.device("cpu")) is tensor
