"""PRETRAIN.FROM: weights of any source go into the encoder, tensor by tensor; another network is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode

from clop_det.comparison.planning.identity import of_pretraining
from clop_det.config.reading import read_config
from clop_det.conversion.convert import convert_checkpoint
from clop_det.digests import Digests
from clop_det.errors import UserError
from clop_det.pretraining.build import build_method
from clop_det.pretraining.given import given_facts
from tests.conversion.samples import random_network


def config(start: Path | str, *pairs: str) -> CfgNode:
    root = ("CLASSIFICATION.ROOT", "digits://cluttered?train=20&val=10")
    own = ("ENCODER.ARCH", "resnet18", "ENCODER.STEM", "imagenet", "MODEL.DEVICE", "cpu", "PRETRAIN.FROM", str(start))
    return read_config("pretrain/Base-pretrain.yaml", [*root, *own, *pairs])


def encoder(cfg: CfgNode) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return build_method(cfg, 3, torch.device("cpu")).encoder.state_dict()


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("given") / "resnet18.pth"
    torch.save(random_network("resnet18").state_dict(), path)
    return path


def test_the_backbone_is_the_files_and_the_projector_what_it_is_without(given: Path, tmp_path: Path) -> None:
    source = torch.load(given, weights_only=True)
    convert_checkpoint(given, tmp_path / "converted.pth", verify=False)
    random = encoder(config(""))
    for path in (given, tmp_path / "converted.pth"):
        state = encoder(config(path))
        for name, tensor in state.items():
            inner = name.removeprefix("backbone.")
            if name.startswith("projector."):
                assert torch.equal(tensor, random[name])
            elif not name.endswith("num_batches_tracked"):
                assert torch.equal(tensor, source[inner]), name
        assert not torch.equal(state["backbone.conv1.weight"], random["backbone.conv1.weight"])


def test_weights_that_do_not_say_their_input_are_told(given: Path, caplog: pytest.LogCaptureFixture) -> None:
    encoder(config(given, "MODEL.PIXEL_MEAN", "[1.0, 2.0, 3.0]"))
    (told,) = (record.getMessage() for record in caplog.records if record.name.endswith("pretraining.given"))
    assert "does not say its" in told
    assert "MODEL.PIXEL_MEAN [1.0, 2.0, 3.0]" in told


def test_what_a_run_started_from_is_said_and_counts(given: Path, tmp_path: Path) -> None:
    assert given_facts(config("")) == {}
    assert given_facts(config(given))["started_from"]["file"] == "resnet18.pth"
    copy, other = tmp_path / "copy.pth", tmp_path / "other.pth"
    copy.write_bytes(given.read_bytes())
    torch.save(random_network("resnet18").state_dict(), other)
    digests = {path: of_pretraining(config(path), Digests()).digest for path in ("", given, copy, other)}
    assert digests[given] == digests[copy]
    assert len(set(digests.values())) == 3


def refused(path: Path, content: Any, message: str, *pairs: str) -> None:
    torch.save(content, path)
    with pytest.raises(UserError, match=message):
        encoder(config(path, *pairs))


def test_another_network_or_input_is_refused(given: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    refused(path, random_network("resnet34").state_dict(), r"PRETRAIN\.FROM .*x\.pth is a resnet34.*\d+ tensors differ")
    cifar = random_network("resnet18", stem="cifar").state_dict()
    refused(path, cifar, r"with cifar stem, but ENCODER\.\* builds another network: 1 tensors")
    state = torch.load(given, weights_only=True)
    facts = {"channel_order": "RGB", "pixel_mean": [1.0, 2.0, 3.0], "pixel_std": [1.0, 1.0, 1.0]}
    refused(
        path, {"state_dict": state, "provenance": facts}, r"pixel mean \[1\.0, 2\.0, 3\.0\], but MODEL\.PIXEL_MEAN is"
    )
    facts = {"channel_order": "BGR", "pixel_mean": [1.0, 2.0, 3.0], "pixel_std": [1.0, 1.0, 1.0]}
    refused(path, {"state_dict": state, "provenance": facts}, r"channel order BGR, but INPUT\.FORMAT is RGB")
    with pytest.raises(UserError, match=r"absent\.pth"):
        encoder(config(tmp_path / "absent.pth"))
