"""Networks and converted files that many tests read; none may change them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from clop_det.conversion.convert import convert_checkpoint
from tests.conversion.samples import random_network


@pytest.fixture(scope="session")
def resnet18() -> nn.Module:
    """torchvision's, with random weights and real BatchNorm statistics."""
    return random_network("resnet18")


@pytest.fixture(scope="session")
def resnet50() -> nn.Module:
    return random_network("resnet50")


@pytest.fixture(scope="session")
def torchvision_file(resnet18: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("torchvision") / "resnet18.pth"
    torch.save(resnet18.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def converted_file(torchvision_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-18 in Detectron2's naming, not proved (the proof has tests of its own)."""
    path = tmp_path_factory.mktemp("converted") / "resnet18_d2.pth"
    convert_checkpoint(torchvision_file, path, verify=False)
    return path
