"""`compare --new`: what it asks, what it writes, and that what it writes is a comparison that plans."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from clop_det.annotations.datasets import forget
from clop_det.commands.compare import main
from clop_det.commands.new_comparison import new_comparison
from clop_det.comparison.planning.config import load_compare_config
from clop_det.comparison.planning.matrix import read_matrix
from clop_det.comparison.planning.plan import build_plan
from clop_det.errors import UserError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A COCO data set of three splits and two files that stand for checkpoints; the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "annotations").mkdir(parents=True)
    (tmp_path / "data" / "images").mkdir()
    for number, split in enumerate(("train", "val", "test")):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(tmp_path / "data" / "images" / f"{split}.png")
        image = {"id": 1, "file_name": f"{split}.png", "width": 40, "height": 30}
        box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 12]}
        content = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "thing"}]}
        (tmp_path / "data" / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    for name in ("first", "run0", "run1", "run2"):
        (tmp_path / f"{name}.pth").write_bytes(name.encode())
    yield tmp_path
    for split in ("train", "val", "test"):
        forget(f"my_{split}")


def answers(*texts: str) -> Callable[[str], str]:
    left = iter(texts)

    def ask(question: str) -> str:
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    return ask


def test_what_is_written_plans_with_a_rate_of_its_own_for_every_row(place: Path) -> None:
    path = new_comparison(
        answers("data", "", "", "", "test", "", "first.pth", "run{seed}.pth", "", "mine/compare.yaml")
    )
    made = build_plan(read_matrix(load_compare_config(path), path.parent))
    assert not made.unread
    assert [init.name for init in made.matrix.inits] == ["random", "first", "run"]
    detections = [job for job in made.jobs.values() if job.kind == "detect"]
    assert len(detections) == 3 * 3 * 3
    assert made.matrix.detections[0].select_by == "my_val"
    assert {len(set(init.checkpoints.values())) for init in made.matrix.inits} == {0, 1, 3}


def test_without_test_images_nothing_is_tuned(place: Path) -> None:
    path = new_comparison(answers("data", "coco", "train", "val", "", "resnet50", "first.pth", "", ""))
    assert path == Path("compare.yaml")
    matrix = read_matrix(load_compare_config(path), path.parent)
    assert matrix.detections[0].config.name == "Base-R_50_FPN.yaml"
    assert (matrix.detections[0].select_by, matrix.detections[0].grid) == ("", ((),))
    with pytest.raises(UserError, match=r"compare\.yaml exists"):
        new_comparison(answers("data", "coco", "train", "val", "", "resnet50", "first.pth", "", ""))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("absent",), "no folder absent"),
        (("data", "cocoa"), "'cocoa' is none of coco, voc. Did you mean coco"),
        (("data", "", "", "", "", "vgg"), "'vgg' is none of resnet18, resnet50"),
        (("data", "", "", "", "", "", "gone.pth"), r"no file gone\.pth"),
        (("data", "", "", "", "", "", ""), "no checkpoint is given"),
        (("data", ""), "the answers ended"),
        (("data", "", "", "", "val"), "two of the splits are the same"),
        (("data", "", "train", "train", ""), "two of the splits are the same"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(place: Path, given: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        new_comparison(answers(*given))
    assert not list(place.rglob("*.yaml"))


def test_every_file_gets_a_name_that_a_comparison_takes(place: Path) -> None:
    files = ("a_3.pth", "a.pth", "more/a.pth", "epoch=1-step=2.ckpt", "model (1).pth", "random.pth", "größe.pth")
    (place / "more").mkdir()
    for name in files:
        (place / name).write_bytes(name.encode())
    path = new_comparison(answers("data", "", "", "", "", "", *files, "", ""))
    inits = read_matrix(load_compare_config(path), path.parent).inits[1:]
    assert [init.checkpoints[0] for init in inits] == [place / name for name in files]
    assert [init.name for init in inits][3:5] == ["epoch_1-step_2", "model_1"]


def test_the_command_asks_on_the_terminal(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("builtins.input", answers("data", "", "", "", "", "", "first.pth", "", ""))
    assert main(["--new"]) == 0
    assert "clop-det compare --config-file compare.yaml --dry-run" in capsys.readouterr().out
