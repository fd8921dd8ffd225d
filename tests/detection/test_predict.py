"""What was trained is used: by `predict`, and by stock Detectron2."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from clop_det import api
from clop_det.annotations.images import read_image
from clop_det.commands.common import run_tool
from clop_det.commands.predict import main
from clop_det.detection.predict import Detector
from clop_det.errors import UserError
from clop_det.files import read_json
from tests.detection.conftest import CLASSES


def test_a_folder_gives_coco_results_and_pictures(finished: Path, shapes_root: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    (images / "deep").mkdir(parents=True)
    for name, place in (("test_00.png", "."), ("test_01.png", "deep")):
        shutil.copy(shapes_root / "JPEGImages" / name, images / place / name)
    (images / "broken.jpg").write_bytes(b"no image")
    words = [str(finished), str(images), "--output", str(tmp_path / "found"), "--threshold", "0.05"]
    assert main(words) == 1  # one could not be read
    coco = COCO(str(tmp_path / "found" / "images.json"))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    assert [Path(image["file_name"]).name for image in coco.loadImgs(coco.getImgIds())] == [
        "test_01.png",
        "test_00.png",
    ]
    results = read_json(tmp_path / "found" / "detections.json")
    assert results
    assert all(entry["score"] >= 0.05 for entry in results)
    middle = sorted(entry["score"] for entry in results)[len(results) // 2]
    some = api.predict(finished, [images], tmp_path / "some", threshold=middle, draw=False)
    assert 0 < some.count == sum(entry["score"] >= middle for entry in results) < len(results)
    loaded = coco.loadRes(results)
    assert len(loaded.getAnnIds()) == len(results)
    pictures = sorted((tmp_path / "found" / "pictures").iterdir())
    assert len(pictures) == 2
    sizes = [read_image({"file_name": str(path)}, "RGB").shape for path in pictures]
    assert sorted(sizes) == sorted([(48, 64, 3), (64, 48, 3)])


def test_what_is_missing_is_named(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has not ended"):
        api.predict(tmp_path, [tmp_path], tmp_path / "found")
    with pytest.raises(UserError, match="no image"):
        api.predict(finished, [tmp_path], tmp_path / "found")
    shutil.copy(finished / "model_final.pth", tmp_path / "alone.pth")
    with pytest.raises(UserError, match=r"no config\.yaml beside"):
        api.predict(tmp_path / "alone.pth", [tmp_path], tmp_path / "found")


def test_a_device_that_is_not_there_is_one_line(
    finished: Path, shapes_root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [str(finished), str(shapes_root / "JPEGImages"), "--output", str(tmp_path / "found")]
    with pytest.raises(SystemExit) as ended:
        run_tool(lambda _: main([*words, "--set", "MODEL.DEVICE", "cuda:99"]))
    assert ended.value.code == 2
    said = capfd.readouterr().err
    (line,) = [line for line in said.splitlines() if line.startswith("error:")]
    assert "MODEL.DEVICE is 'cuda:99', which torch does not find" in line
    assert "Traceback" not in said
    assert not (tmp_path / "found").exists()


def test_modules_that_a_run_names_are_not_imported(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    mark = tmp_path / "ran"
    (run / "t_foreign.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    text = (run / "config.yaml").read_text().replace("IMPORTS: []", "IMPORTS: [t_foreign.py]")
    assert "t_foreign" in text
    (run / "config.yaml").write_text(text)
    with pytest.raises(UserError, match="add --allow-imports"):
        api.predict(run, [finished], tmp_path / "found")
    assert not mark.exists()


def test_stock_detectron2_reads_the_run_folder_and_finds_the_same_boxes(
    finished: Path, shapes_root: Path, tmp_path: Path
) -> None:
    path = str(shapes_root / "JPEGImages" / "test_00.png")
    script = f"""
import json, sys, warnings
warnings.simplefilter("ignore")
from clop_det import detectron2_provider  # only makes `import detectron2` work
from detectron2.config import get_cfg
from detectron2.engine import DefaultPredictor
from detectron2.data.detection_utils import read_image
cfg = get_cfg()
cfg.merge_from_file({str(finished / "detectron2_config.yaml")!r})
found = DefaultPredictor(cfg)(read_image({path!r}, "BGR"))["instances"]
assert not [name for name in sys.modules if name.startswith("clop_det.detection")]
print("FOUND", json.dumps([found.pred_boxes.tensor.tolist(), found.scores.tolist(), found.pred_classes.tolist()]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert lines, done.stderr[-2000:]
    (tmp_path / "stock.json").write_text(lines[0].removeprefix("FOUND "))
    boxes, scores, classes = read_json(tmp_path / "stock.json")
    size, ours = Detector(finished).detect(path)
    assert size == (48, 64)
    assert len(scores) == len(ours["score"]) > 0
    np.testing.assert_allclose(ours["score"], scores, atol=1e-5)
    np.testing.assert_allclose(ours["box"], boxes, atol=1e-2)
    assert ours["category"].tolist() == classes
