"""A test image among the images of a pretraining is found before anything runs, also resized and recompressed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from clop_det import keys
from clop_det.annotations.datasets import forget
from clop_det.comparison.planning.boundary import check_boundary
from clop_det.comparison.planning.config import load_compare_config
from clop_det.comparison.planning.matrix import read_matrix
from clop_det.comparison.planning.plan import build_plan
from clop_det.data.layouts import LAYOUTS, ImageList, read_images, register_layout
from clop_det.errors import UserError
from clop_det.keys import Key
from tests.comparison.workplace import Workplace, pretrain_config

SETS = ("boundary_train", "boundary_test")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOP_DET_CACHE", str(tmp_path_factory.mktemp("cache")))


def picture(seed: int) -> Image.Image:
    """A smooth picture of its own, 160 x 120."""
    rough = np.random.default_rng(seed).integers(0, 255, (15, 20, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((160, 120), Image.Resampling.BICUBIC)


@pytest.fixture
def place(workplace: Workplace) -> Iterator[Workplace]:
    """A comparison of photographs: six to pretrain on, three scenes to train and three to test detectors on."""
    for seed in range(6):
        folder = workplace.folder / "photos" / "train" / f"class{seed % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        picture(seed).save(folder / f"{seed}.png")
    (workplace.folder / "photos" / "val" / "class0").mkdir(parents=True)
    (workplace.folder / "photos" / "val" / "class1").mkdir(parents=True)
    for seed in (20, 21):
        picture(seed).save(workplace.folder / "photos" / "val" / f"class{seed % 2}" / "x.png")
    scenes = workplace.folder / "scenes"
    (scenes / "annotations").mkdir(parents=True)
    (scenes / "images").mkdir()
    for number, split in enumerate(("train", "test")):
        files = [f"{split}{index}.png" for index in range(3)]
        for index, file in enumerate(files):
            picture(100 + 10 * number + index).save(scenes / "images" / file)
        images = [{"id": n, "file_name": file, "width": 160, "height": 120} for n, file in enumerate(files)]
        boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [10, 10, 50, 40]} for n in range(3)]
        content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "thing"}]}
        (scenes / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    entries = [{"NAME": name, "LAYOUT": "coco", "ROOT": str(scenes), "SPLIT": name[9:]} for name in SETS]
    sets = {"REGISTER": entries, "TRAIN": [SETS[0]], "TEST": [SETS[1]]}
    (workplace.folder / "detect.yaml").write_text(yaml.safe_dump({"SOLVER": {"MAX_ITER": 8}, "DATASETS": sets}))
    root = str(workplace.folder / "photos")
    (workplace.folder / "pretrain.yaml").write_text(
        pretrain_config().replace("digits://cluttered?train=20&val=10", root)
    )
    yield workplace
    for name in SETS:
        forget(name)


def test_clean_data_run_and_the_report_says_what_was_compared(place: Workplace) -> None:
    assert place.run() == 0
    plan = json.loads((place.output / "plan.json").read_text())
    root = place.folder / "photos"
    assert plan["boundary"] == {"images": {f"CLASSIFICATION.ROOT {root}": 6}, "given": []}


@pytest.mark.parametrize("quality", [0, 40])
def test_a_planted_test_image_is_refused_with_both_paths(place: Workplace, quality: int) -> None:
    image = picture(112)  # the last scene of the test set
    planted = place.folder / "photos" / "train" / "class0" / ("planted.jpg" if quality else "planted.png")
    if quality:
        image.resize((136, 102)).save(planted, quality=quality)
    else:
        image.save(planted)
    with pytest.raises(UserError, match=r"1 of 3 images of the test set boundary_test are among") as caught:
        place.run()
    assert str(planted) in str(caught.value)
    assert str(place.folder / "scenes" / "images" / "test2.png") in str(caught.value)
    assert not place.output.exists()
    assert place.run("--only", "pretrain*") == 0  # which no test image judges
    text = (
        (place.folder / "detect.yaml").read_text().replace("DATASETS:", "DATASETS:\n  OVERLAP_ALLOWED: [boundary_test]")
    )
    (place.folder / "detect.yaml").write_text(text)
    assert place.run() == 0


def test_what_one_detection_config_allows_another_does_not(place: Workplace) -> None:
    picture(112).save(place.folder / "photos" / "train" / "class0" / "planted.png")
    allowed = {"NAME": "lax", "CONFIG": "detect.yaml", "OPTS": {"DATASETS.OVERLAP_ALLOWED": [SETS[1]]}}
    strict = {"NAME": "strict", "CONFIG": "detect.yaml", "OPTS": {"SOLVER.MAX_ITER": 9}}
    place.write({"DETECTION": [allowed, strict]})
    with pytest.raises(UserError, match="1 of 3 images of the test set boundary_test are among"):
        place.run()


def test_a_layout_that_takes_other_images_of_the_same_folder_is_compared_too(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LAYOUTS, "_entries", dict(LAYOUTS._entries))
    monkeypatch.setattr(keys, "_DECLARED", dict(keys._DECLARED))

    @register_layout("some", {"WITHOUT": Key("", "Files whose names hold this are left out.")})
    def read_some(root: Path, split: str, without: str) -> ImageList:
        listed = read_images("folder", root, split)
        kept = [index for index, name in enumerate(listed.files) if not without or without not in name]
        return ImageList(root, tuple(listed.files[index] for index in kept), listed.labels[kept], listed.classes)

    picture(112).save(place.folder / "photos" / "train" / "class0" / "planted.png")
    layout, option = "CLASSIFICATION.LAYOUT", "CLASSIFICATION.LAYOUTS.SOME.WITHOUT"
    clean = {"NAME": "clean", "LOSS": "clop", "OPTS": {layout: "some", option: "planted"}}
    every = {"NAME": "all", "LOSS": "supcon", "OPTS": {layout: "some", option: "x"}}
    plan = build_plan(read_matrix(load_compare_config(place.write({"INITS": ["random", clean]})), place.folder))
    assert list(check_boundary(plan, plan.jobs)["images"].values()) == [6]
    plan = build_plan(read_matrix(load_compare_config(place.write({"INITS": ["random", clean, every]})), place.folder))
    with pytest.raises(UserError, match="1 of 3 images of the test set boundary_test are among"):
        check_boundary(plan, plan.jobs)


def test_given_weights_are_said_to_be_of_unknown_images(place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    (place.folder / "given.pth").write_bytes(b"weights")
    place.write({"INITS": ["random", {"NAME": "given", "CHECKPOINT": "given.pth"}]})
    assert place.run() == 0
    assert "Which images the given weights of given were trained on is not known here." in capsys.readouterr().out
