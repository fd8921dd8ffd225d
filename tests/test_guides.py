"""The commands of the guides and of the README, word for word; overrides at the end make them short."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image

import clop_det
from tests.processes import run_python

ROOT = Path(__file__).resolve().parents[1]
RUN = ["MODEL.DEVICE", "cpu", "SOLVER.WARMUP_ITERS", "0", "DATALOADER.NUM_WORKERS", "0"]
PRETRAIN = [
    *RUN,
    "SOLVER.MAX_ITER",
    "1",
    "SOLVER.IMS_PER_BATCH",
    "8",
    "PROBE.ENABLED",
    "False",
    "TEST.EVAL_PERIOD",
    "0",
]
PRETRAIN += ["CLASSIFICATION.ROOT", "digits://cluttered?train=40&val=20&size=32", "CLASSIFICATION.IMAGE_SIZE", "32"]
SCENES = "digits://scenes?train=4&val=1&test=2&size=64"
TRAIN = [*RUN, "SOLVER.MAX_ITER", "1", "SOLVER.IMS_PER_BATCH", "2", "PROBE.ENABLED", "False", "DATASETS.REGISTER"]
TRAIN += [str([{"NAME": f"digit_scenes_{s}", "LAYOUT": "voc", "ROOT": SCENES, "SPLIT": s} for s in ("train", "test")])]
STEPS = {"SOLVER.MAX_ITER": 1, "SOLVER.WARMUP_ITERS": 0, "SOLVER.IMS_PER_BATCH": 2, "DATALOADER.NUM_WORKERS": 0}
SMALL = {"INPUT.MIN_SIZE_TRAIN": [64], "INPUT.MIN_SIZE_TEST": 64}
# One process for several commands.
MAIN = """
import json, sys
from clop_det.commands.main import main
from tests.unrendered import unrendered
with unrendered():
    for words in json.loads(sys.argv[1]):
        print(chr(30), flush=True)
        assert main(words) == 0, words
"""


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def write_files(page: str, folder: Path) -> None:
    """The files of a guide, each named by its first line."""
    for kind in ("yaml", "python"):
        for text in blocks(page, kind):
            (folder / text.split("\n", 1)[0].removeprefix("# ")).write_text(text)


def run(folder: Path, *commands: tuple[str, list[str]]) -> list[str]:
    """What each command of a page prints, with overrides at its end; one after the other, in a process of their own."""
    lines = [[*shlex.split(line, comments=True), *more] for line, more in commands]
    assert {words[0] for words in lines} == {"clop-det"}
    commands_of = json.dumps([words[1:] for words in lines])
    done = run_python(["-c", MAIN, commands_of], folder, CLOP_DET_CACHE=str(folder / "cache"))
    assert done.returncode == 0, f"{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
    _, *said = done.stdout.split(chr(30))
    assert len(said) == len(lines)
    return said


def test_the_five_commands_of_the_readme(tmp_path: Path) -> None:
    block, _ = [text for text in blocks("README.md", "") if text.startswith("clop-det pretrain")]
    pretrain, convert, train, predict, compare = block.replace("\\\n", " ").splitlines()
    Image.new("RGB", (64, 48), "grey").save(tmp_path / "photo.jpg")
    listing = compare.replace("compare --", "compare --dry-run --")
    _, proof, _, _, jobs = run(
        tmp_path, (pretrain, PRETRAIN), (convert, []), (train, TRAIN), (predict, []), (listing, [])
    )
    assert "proof" in proof
    assert (tmp_path / "output" / "found" / "pictures").is_dir()
    assert "jobs" in jobs


def test_the_installation_of_the_readme(tmp_path: Path) -> None:
    """pip itself is left out: test_wheel.py builds and installs the wheel."""
    (block,) = [text for text in blocks("README.md", "") if text.startswith("pip install")]
    _, copy, demo = block.splitlines()
    assert f"clop_det-{clop_det.__version__}-" in block
    assert shlex.split(copy, comments=True)[-1] in (ROOT / "Makefile").read_text()
    sets = dict(zip(TRAIN[::2], TRAIN[1::2], strict=True))["DATASETS.REGISTER"]
    detection = f"[{{CONFIG: detection/digits/faster_rcnn_R_18_FPN_digits.yaml, OPTS: {{DATASETS.REGISTER: {sets}, "
    detection += ", ".join(f"{key}: {value}" for key, value in {**STEPS, "PROBE.ENABLED": False}.items()) + "}}]"
    short = ["COMPARE.INITS", "[random]", "COMPARE.DEVICE", "cpu", "COMPARE.EXAMPLES", "0", "COMPARE.DETECTION"]
    run(tmp_path, (demo, [*short, detection]))
    assert (tmp_path / "output" / "demo" / "report" / "report.html").is_file()


def test_the_backbone_of_the_examples(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (block,) = blocks("examples/my_backbone/README.md", "")
    pretrain, convert, train = block.splitlines()
    # Each in a process of its own: what one command imports must not serve the next.
    run(tmp_path, (pretrain, PRETRAIN))
    (proof,) = run(tmp_path, (convert, []))
    assert "proof" in proof
    run(tmp_path, (train, TRAIN))


@pytest.mark.slow
@pytest.mark.parametrize("network", ["convnext", "vit"])
def test_the_readmes_commands_for_networks_of_timm(network: str, tmp_path: Path) -> None:
    _, block = [text for text in blocks("README.md", "") if text.startswith("clop-det pretrain")]
    pretrain, convert, train, predict = [line for line in block.splitlines() if f"output/{network}" in line]
    doctor = train.replace("clop-det train", "clop-det doctor")
    Image.new("RGB", (64, 48), "grey").save(tmp_path / "photo.jpg")
    commands = [(pretrain, PRETRAIN), (convert, []), (doctor, TRAIN), (train, TRAIN), (predict, [])]
    _, proof, findings, _, _ = run(tmp_path, *commands)
    assert "proof" in proof
    assert re.search(r"(\d+) of \1 backbone tensors will load", findings)
    assert "0 error(s)" in findings
    assert list((tmp_path / "output" / f"{network}_found" / "pictures").iterdir())
    assert (tmp_path / "output" / f"{network}_found" / "detections.json").is_file()


def test_my_own_loss(tmp_path: Path) -> None:
    page = "docs/guides/own_loss.md"
    write_files(page, tmp_path)
    (line,) = blocks(page, "bash")
    (said,) = run(tmp_path, (line.strip(), PRETRAIN))
    assert "my_loss.py" in said
    config = (tmp_path / "output" / "spread" / "config.yaml").read_text()
    assert re.search(r"SPREAD:\n\s+WEIGHT: 0.5", config)


@pytest.fixture
def own_data(tmp_path: Path) -> Path:
    """mydata/ and two checkpoints, as the guide's first step says."""
    (tmp_path / "mydata" / "annotations").mkdir(parents=True)
    (tmp_path / "mydata" / "images").mkdir()
    for split in ("train", "val"):
        images = [{"id": i, "file_name": f"{split}{i}.jpg", "width": 64, "height": 48} for i in range(1, 5)]
        boxes = [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}
            for i in range(1, 5)
        ]
        for item in images:
            picture = Image.effect_noise((8, 6), 90).resize((64, 48)).convert("RGB")
            picture.paste((250, 250, 40 * item["id"]), (5, 5, 25, 25))
            picture.save(tmp_path / "mydata" / "images" / item["file_name"])
        content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "thing"}]}
        (tmp_path / "mydata" / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    for seed, name in enumerate(("first", "second")):
        torch.manual_seed(seed)
        torch.save(torchvision.models.resnet18().state_dict(), tmp_path / f"{name}.pth")
    return tmp_path


def test_two_checkpoints_on_my_own_coco_data(own_data: Path) -> None:
    page = "docs/guides/compare_checkpoints.md"
    write_files(page, own_data)
    commands, last = blocks(page, "bash")
    dry, whole = commands.strip().splitlines()
    short = ["COMPARE.SEEDS", "[0]", "COMPARE.DEVICE", "cpu", "COMPARE.EXAMPLES", "0", "COMPARE.DETECTION"]
    short += [json.dumps([{"NAME": "mydata", "CONFIG": "detector.yaml", "OPTS": {**STEPS, **SMALL}}])]
    listed, _ = run(own_data, (dry, short), (whole, short))
    assert (own_data / "comparison" / "report" / "report.html").is_file()
    pattern = shlex.split(last)[2]
    (job,) = own_data.glob(pattern)
    assert job.name in listed
    run(own_data, (last.strip().replace(pattern, str(job)), []))
