"""examples/ from a folder outside the checkout, through the tools; the example of the docs, word for word."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import pytest

from clop_det.files import read_json
from tests.processes import run_python

ROOT = Path(__file__).resolve().parents[1]
TOY = ["MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", "3", "SOLVER.WARMUP_ITERS", "1", "SOLVER.IMS_PER_BATCH", "8"]
PRETRAIN = [*TOY, "TEST.EVAL_PERIOD", "0", "CLASSIFICATION.ROOT", "digits://cluttered?train=40&val=20&size=16"]
PRETRAIN += ["CLASSIFICATION.IMAGE_SIZE", "16", "PROBE.KNN.K", "[5]"]
DETECT = {"SOLVER.MAX_ITER": 2, "SOLVER.WARMUP_ITERS": 1, "SOLVER.IMS_PER_BATCH": 2, "PROBE.ENABLED": False}
SCENES = "digits://scenes?train=4&val=1&test=2&size=64"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of examples/."""
    folder = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(ROOT / "examples", folder / "examples")
    return folder


def run(place: Path, tool: str, *words: str) -> str:
    """A tool's output; it must end well."""
    cache = str(place / "cache")
    done = run_python([ROOT / "tools" / tool, *words], place, PYTHONPATH=str(ROOT), CLOP_DET_CACHE=cache)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_layout_of_ones_own(place: Path) -> None:
    out = run(place, "pretrain.py", "--config-file", "examples/my_layout/pretrain.yaml", *PRETRAIN)
    file = place / "examples/my_layout/my_layout.py"
    assert out.startswith(f"imports: {file} (IMPORTS of examples/my_layout/pretrain.yaml)\n")
    split = read_json(place / "output/my_layout/label_split.json")
    assert "0+2+4+6+8" in str(split)
    assert read_json(place / "output/my_layout/results.json")["metrics"]["knn_top1"] >= 0


def test_a_loss_of_ones_own_whose_file_moves_between_run_and_resume(place: Path) -> None:
    words = ["--config-file", "examples/my_loss/pretrain.yaml", *PRETRAIN, "LOSS.ALIGN_UNIFORM.T", "3"]
    run(place, "pretrain.py", *words)
    shutil.move(place / "examples/my_loss", place / "moved")
    try:
        run(place, "pretrain.py", "--resume", "--config-file", "moved/pretrain.yaml", *words[2:])
    finally:
        shutil.move(place / "moved", place / "examples/my_loss")
    config = (place / "output/my_loss/config.yaml").read_text()
    assert str(place / "moved/my_loss.py") in config
    lines = [line for line in (place / "output/my_loss/metrics.json").read_text().splitlines() if "uniformity" in line]
    assert lines


def test_several_processes_import_what_the_config_names(place: Path) -> None:
    words = ["--num-gpus", "2", "--dist-url", "auto", "--config-file", "examples/my_loss/pretrain.yaml", *PRETRAIN]
    out = run(place, "pretrain.py", *words, "OUTPUT_DIR", "output/two")
    assert out.count("imports: ") == 1
    assert read_json(place / "output/two/results.json")["processes"] == 2


def test_loss_probe_and_roi_head_compared(place: Path) -> None:
    pretrain = {key: value for key, value in zip(PRETRAIN[::2], PRETRAIN[1::2], strict=True) if key != "MODEL.DEVICE"}
    opts = (
        "{"
        + ", ".join(f"{key}: {value!r}" if "://" in value else f"{key}: {value}" for key, value in pretrain.items())
        + "}"
    )
    sets = ", ".join(f"{{NAME: s_{s}, LAYOUT: voc, ROOT: '{SCENES}', SPLIT: {s}}}" for s in ("train", "test"))
    detect = ", ".join(f"{key}: {value}" for key, value in DETECT.items())
    detect += f", DATASETS.REGISTER: [{sets}], DATASETS.TRAIN: [s_train], DATASETS.TEST: [s_test]"
    words = ["--config-file", "examples/compare.yaml", "COMPARE.PRETRAIN.OPTS", opts, "COMPARE.EXAMPLES", "1"]
    words += ["COMPARE.DETECTION", f"[{{CONFIG: my_roi_head/detection.yaml, OPTS: {{{detect}}}}}]"]
    out = run(place, "compare.py", *words)
    names = ("my_loss/my_loss.py", "my_roi_head/my_roi_head.py", "my_probe/within_class_spread.py")
    loss, head, probe = (place / "examples" / name for name in names)
    named = [line.split()[1] for line in out.splitlines() if line.startswith("imports: ")]
    assert sorted(named) == sorted(map(str, (loss, head, probe)))
    with open(place / "output/examples/report/results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["init"]: row["status"] for row in rows} == {"random": "done", "align_uniform": "done"}
    assert 0 < float(next(row for row in rows if row["init"] == "align_uniform")["within_class_spread"]) < 2
    assert "within-class spread" in (place / "output/examples/report/report.html").read_text()
    for job in (place / "output/examples/jobs").glob("*/job.yaml"):
        # Each job imports what its own config names, and has no key of the others.
        imports, other = (loss, head) if job.parent.name.startswith("pretrain") else (head, loss)
        text = job.read_text()
        assert str(imports) in text
        assert str(probe) in text
        assert str(other) not in text
        assert ("ALIGN_UNIFORM" in text) == (imports == loss)
        assert ("CLS_LOSS_WEIGHT" in text) == (imports == head)


def test_the_example_loss_of_the_docs_runs_when_pasted(place: Path) -> None:
    page = (ROOT / "docs" / "losses.md").read_text()
    (block,) = [code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "@register_loss" in code]
    (place / "pasted.py").write_text(block)
    words = ["--config-file", str(ROOT / "configs/pretrain/Base-pretrain.yaml"), *PRETRAIN, "IMPORTS", "pasted.py"]
    run(place, "pretrain.py", *words, "LOSS.NAME", "clop", "LOSS.CLOP.BASE", "uniformity", "OUTPUT_DIR", "output/docs")
    assert read_json(place / "output/docs/results.json")["init"] == "clop"


def test_a_method_of_ones_own(place: Path) -> None:
    words = ["--config-file", "examples/my_method/two_heads.yaml", *PRETRAIN, "OUTPUT_DIR", "output/two_heads"]
    run(place, "pretrain.py", *words)
    assert "two_heads.py" in (place / "output/two_heads/config.yaml").read_text()
