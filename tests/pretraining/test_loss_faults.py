"""What a step does with its loss: counts it once, and leaves a step out whose decomposition fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from clop_det.data.views import Views
from clop_det.errors import UserError
from clop_det.losses import Loss, loss_names
from clop_det.losses.lejepa import LeJEPA
from clop_det.methods import Method, MethodContext
from clop_det.methods.encoder import build_encoder
from clop_det.pretraining.build import build_method
from clop_det.pretraining.data import BatchSource, open_data
from clop_det.pretraining.nonfinite import NonFiniteGuard
from clop_det.pretraining.run import prepare
from clop_det.pretraining.step import PretrainStep

from .conftest import read_options, write_images
from .test_waits import step_of

TWO = ("SOLVER.MAX_SKIPPED", "1", "PROBE.ENABLED", "False")


class TwoHeads(Method):
    """Asks its loss twice a step."""

    loss: Loss

    def __init__(self, context: MethodContext) -> None:
        super().__init__(context)
        self.loss = LeJEPA(slices=4)
        self.second = nn.Linear(8, 8)

    def step(self, views: Views, labels: Tensor) -> dict[str, Tensor]:
        embeddings = self.embed(views.stacked)
        first, second = self.loss(embeddings, labels), self.loss(self.second(embeddings), labels)
        return {"first": first, "second": second}


def test_a_step_counts_once_however_often_the_loss_was_asked(tiny_options: list[str]) -> None:
    cfg = read_options(*tiny_options, *TWO)
    data = open_data(cfg)
    encoder = build_encoder("resnet18", {}, 16, 8)
    method = TwoHeads(MethodContext(encoder, LeJEPA, 3, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD))
    optimizer = torch.optim.SGD(method.parameters(), lr=0.01)
    step = PretrainStep(cfg, method, method, optimizer, BatchSource(cfg, data), NonFiniteGuard(cfg, data, method))
    for done in range(2):
        assert step(done) is not None
        assert int(method.loss.step) == done + 1


@pytest.mark.parametrize("pieces", ["1", "2"])
def test_so_it_does_in_micro_batches_and_within_clop(tiny_options: list[str], pieces: str) -> None:
    options = ("LOSS.CLOP.BASE", "lejepa", "LOSS.LEJEPA.SLICES", "4", "SOLVER.ACCUMULATE", pieces)
    step = step_of(tiny_options, *options, *TWO)
    assert step(0) is not None
    assert int(step.method.loss.base.step) == 1  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize("loss", ["wmse", "mmcr"])
def test_embeddings_that_no_decomposition_takes_are_a_step_left_out(
    tiny_options: list[str], tmp_path: Path, loss: str
) -> None:
    step = step_of(tiny_options, "LOSS.NAME", loss, "OUTPUT_DIR", str(tmp_path), *TWO)
    weight = step.method.encoder.projector[-1].weight  # type: ignore[index, union-attr]
    with torch.no_grad():
        weight.fill_(torch.nan)
    with EventStorage():
        assert step(0) is None
        assert (tmp_path / "nonfinite_0000000.json").is_file()
        with pytest.raises(UserError, match=r"iteration 1 is not finite \(embeddings: \d+ values are NaN"):
            step(1)


def test_wmse_of_rows_that_span_too_little_is_left_out_too(tiny_options: list[str], tmp_path: Path) -> None:
    options = ("LOSS.NAME", "wmse", "LOSS.WMSE.EPSILON", "0.0", "PROJECTOR.OUT_DIM", "4", "OUTPUT_DIR", str(tmp_path))
    step = step_of(tiny_options, *options, *TWO)
    with torch.no_grad():
        step.method.encoder.projector[-1].weight.zero_()  # type: ignore[index, operator, union-attr]
    with EventStorage():
        assert step(0) is None


def test_every_loss_of_labelled_images_alone_refuses_a_run_without_one(tiny_options: list[str], tmp_path: Path) -> None:
    write_images(tmp_path, "made", 1, 8)
    (tmp_path / "made" / "class0").rename(tmp_path / "train")
    refused = set()
    for name in loss_names():
        cfg = read_options(*tiny_options, "CLASSIFICATION.ROOT", str(tmp_path), *TWO, "LOSS.NAME", name)
        method = build_method(cfg, 0, torch.device("cpu"))
        assert method.loss is not None
        if method.loss.needs_labels:
            refused.add(name)
    assert {"clop", "cross_entropy", "suncet", "paws", "prototype_pull", "ntce", "fixmatch_prototypes"} <= refused
    assert not refused & {"info_nce", "dcl", "vicreg", "barlow_twins", "supcon", "lejepa", "mmcr", "wmse", "simsiam"}
    for name in ("suncet", "ntce"):
        cfg = read_options(*tiny_options, "CLASSIFICATION.ROOT", str(tmp_path), *TWO, "LOSS.NAME", name)
        with pytest.raises(UserError, match=f"LOSS.NAME {name} needs labels, but no image of train"):
            prepare(cfg)


def test_simmatch_refuses_classes_without_one_labelled_image(tiny_options: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    (folder / "class_names.txt").write_text("cat\ndog\n")
    (folder / "unlabeled_X.bin").write_bytes(np.random.default_rng(0).bytes(10 * 3 * 96 * 96))
    images = ("CLASSIFICATION.ROOT", str(tmp_path), "CLASSIFICATION.LAYOUT", "stl10")
    options = [*tiny_options, *images, "CLASSIFICATION.TRAIN_SPLIT", "unlabelled", "PROBE.ENABLED", "False"]
    with pytest.raises(UserError, match="METHOD.NAME simmatch needs labels, but no image of unlabelled"):
        prepare(read_options(*options, "METHOD.NAME", "simmatch"))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["LOSS.NAME", "direct_clr", "LOSS.DIRECT_CLR.DIMENSIONS", "9"], "DIMENSIONS=9: must be at most .* 8"),
        (["LOSS.NAME", "direct_clr", "LOSS.DIRECT_CLR.DIMENSIONS", "-1"], "must be at least 0"),
        (
            ["LOSS.CLOP.BASE", "ntce", "LOSS.NTCE.PROTOTYPE_SEED", "1"],
            "base=NTCE: holds other prototypes than the pull; give both the same PROTOTYPES and PROTOTYPE_SEED",
        ),
        (
            ["LOSS.CLOP.BASE", "tsc", "LOSS.CLOP.ASSIGNMENT", "matched"],
            "base=TSC: holds other prototypes than the pull",
        ),
    ],
)
def test_options_that_contradict_each_other_are_one_error(
    tiny_options: list[str], pairs: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        prepare(read_options(*tiny_options, *pairs))
