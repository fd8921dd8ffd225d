from __future__ import annotations

import os
import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm  # noqa: F401  (fails early where Detectron2 is missing)

from clop_det.commands.pretrain import main
from clop_det.engine.leaving import EXIT_STOPPED, StopRequested
from clop_det.engine.metrics import read_metrics
from clop_det.errors import UserError
from clop_det.files import read_json
from clop_det.pretraining.probing import ProbeHook
from tests.processes import run_python, start_python

from .conftest import ROOT, arguments, crash, same_files, write_images


def start(output: Path, options: list[str]) -> BaseProcess:
    return start_python([ROOT / "tools" / "pretrain.py", *arguments(output, options)], output.parent)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_options: list[str]) -> Path:
    """An uninterrupted run."""
    output = tmp_path_factory.mktemp("whole") / "run"
    assert main(arguments(output, tiny_options)) == 0
    return output


def test_a_run_leaves_everything_a_user_expects(whole: Path) -> None:
    names = {path.name for path in whole.iterdir()}
    assert {"config.yaml", "metrics.json", "log.txt", "model_final.pth", "results.json", "label_split.json"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    results = read_json(whole / "results.json")
    assert {"knn_top1", "linear_top1", "rankme"} <= set(results["metrics"])
    assert 0 < results["metrics"]["embedding_mean_norm"] <= 1 <= results["metrics"]["embedding_rankme"] <= 8
    assert results["metrics"]["embedding_length"] > 0
    assert (results["init"], results["label_fraction"], results["seed"]) == ("clop", 0.5, 0)
    lines = read_metrics(whole)
    assert {"loss_info_nce", "loss_prototype_pull", "total_loss", "lr"} <= set(lines[-1])
    assert [line["iteration"] for line in lines if "probe/knn_top1" in line] == [0, 5, 11]


@pytest.mark.parametrize("crash_at", [0, 4, 9])
def test_a_crash_at_any_step_changes_nothing(
    whole: Path, tmp_path: Path, tiny_options: list[str], crash_at: int
) -> None:
    output = tmp_path / "crashed"
    crash(output, tiny_options, crash_at)
    assert main(arguments(output, tiny_options, "--resume")) == 0
    same_files(whole, output)


def test_kill_nine_at_a_random_moment_then_resume(whole: Path, tmp_path: Path, tiny_options: list[str]) -> None:
    output = tmp_path / "killed"
    process = start(output, tiny_options)
    while not (output / "log.txt").exists() and process.is_alive():
        time.sleep(0.01)
    time.sleep(random.uniform(0, 3))
    process.kill()
    process.join()
    assert main(arguments(output, tiny_options, "--resume")) == 0
    same_files(whole, output)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_saves_and_says_so(whole: Path, tmp_path: Path, tiny_options: list[str], number: int) -> None:
    output = tmp_path / "stopped"
    process = start(output, tiny_options)
    # The handler stands once the loop is about to begin; the first probe logs just then.
    while process.is_alive() and not (
        (output / "log.txt").exists() and "probes after 0" in (output / "log.txt").read_text()
    ):
        time.sleep(0.01)
    if process.is_alive() and process.pid:
        os.kill(process.pid, number)
    process.join(500)
    if process.exitcode == 0:
        pytest.skip("the run was over before the signal arrived")
    errors = (tmp_path / "stderr").read_text()
    assert process.exitcode == EXIT_STOPPED, errors
    assert "Traceback" not in errors
    assert main(arguments(output, tiny_options, "--resume")) == 0
    same_files(whole, output)


def test_a_stop_signal_in_the_probes_before_the_first_step_is_obeyed(
    tmp_path: Path, tiny_options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    probes = ProbeHook.run

    def stopping(self: ProbeHook) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        return probes(self)

    def uncaught(number: int, frame: object) -> None:
        raise AssertionError("the signal would have killed the process")

    monkeypatch.setattr(ProbeHook, "run", stopping)
    previous = signal.signal(signal.SIGTERM, uncaught)
    with pytest.raises(StopRequested):
        main(arguments(tmp_path / "run", tiny_options))
    assert signal.signal(signal.SIGTERM, previous) is uncaught
    assert (tmp_path / "run" / "model_0000000.pth").is_file()


def test_a_kill_just_before_the_final_checkpoint_is_made_good(tmp_path: Path, tiny_options: list[str]) -> None:
    options = [*tiny_options, "SOLVER.MAX_ITER", "4", "TEST.EVAL_PERIOD", "0"]
    output = tmp_path / "run"
    assert main(arguments(output, options)) == 0
    final = torch.load(output / "model_final.pth", weights_only=True)
    for name in ("model_final.pth", "model_final.pth.sha256", "results.json"):
        (output / name).unlink()
    assert main(arguments(output, options, "--resume")) == 0
    again = torch.load(output / "model_final.pth", weights_only=True)
    assert again["iteration"] == final["iteration"]
    assert all(torch.equal(again["model"][key], final["model"][key]) for key in final["model"])


def test_losses_of_one_seed_see_the_same_weights_views_and_labels(tmp_path: Path, tiny_options: list[str]) -> None:
    runs = {}
    for loss in ("info_nce", "supcon"):
        options = [*tiny_options, "LOSS.NAME", loss, "SOLVER.MAX_ITER", "2"]
        main(arguments(tmp_path / loss, options))
        runs[loss] = tmp_path / loss
    splits = [(run / "label_split.json").read_bytes() for run in runs.values()]
    assert splits[0] == splits[1]
    starts = [read_metrics(run)[0]["probe/rankme"] for run in runs.values()]
    assert starts[0] == starts[1]


def test_matched_prototypes_are_assigned_once_and_survive_a_resume(tmp_path: Path, tiny_options: list[str]) -> None:
    options = [*tiny_options, "LOSS.CLOP.ASSIGNMENT", "matched", "SOLVER.MAX_ITER", "2", "TEST.EVAL_PERIOD", "0"]
    assert main(arguments(tmp_path / "run", options)) == 0
    first = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)["model"]
    assert main(arguments(tmp_path / "run", options, "--resume")) == 0
    again = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)["model"]
    prototypes = [key for key in first if "prototypes" in key]
    assert prototypes
    assert all(torch.equal(first[key], again[key]) for key in prototypes)


BAD = [
    (["LOSS.NAME", "clob"], "clop"),
    (["SOLVER.OPTIMIZER", "LARZ"], "LARS"),
    (["ENCODER.ARCH", "resnet19"], "resnet18"),
    (["LABELS.FRACTION", "0"], r"LABELS\.FRACTION|fraction"),
    (["LABELS.FRACTION", "1.5"], r"LABELS\.FRACTION|fraction"),
    (["PROJECTOR.OUT_DIM", "2"], "3 .*2|2 .*3"),
    (["CLASSIFICATION.ROOT", "no/such/folder"], "no/such/folder"),
    (["SOLVER.IMS_PER_BATCH", "1000"], r"SOLVER\.IMS_PER_BATCH"),
    (["SOLVER.CHECKPOINT_PERIOD", "0"], r"SOLVER\.CHECKPOINT_PERIOD"),
    (["INPUT.FORMAT", "BGR"], r"INPUT\.FORMAT"),
    (["AUGMENT.FLIP_PROB", "2"], r"AUGMENT\.FLIP_PROB"),
    (["PROBE.KEEP_BEST", "linear_top5"], r"PROBE\.KEEP_BEST is 'linear_top5'; the probes give knn_top1, knn5_top1"),
    (["PROBE.KNN.K", "()"], r"PROBE\.KNN\.K is \(\)"),
    (["PROBE.KNN.K", "(2.5,)"], r"PROBE\.KNN\.K is \(2\.5,\)"),
    (["PROBE.KNN.TEMPERATURE", "0"], r"PROBE\.KNN\.TEMPERATURE is 0"),
    (["PROBE.BATCH_SIZE", "0"], r"PROBE\.BATCH_SIZE is 0"),
    (["PROBE.MAX_BANK", "-1"], r"PROBE\.MAX_BANK is -1"),
    (["COLLAPSE.PATIENCE", "0"], r"COLLAPSE\..*PATIENCE"),
    (["SOLVER.KEEP_CHECKPOINTS", "0"], r"SOLVER\.KEEP_CHECKPOINTS"),
    (["SOLVER.MAX_SKIPPED", "-1"], r"SOLVER\.MAX_SKIPPED"),
    (["SOLVER.LR_SCHEDULER_NAME", "CosineLR"], r"SOLVER\.LR_SCHEDULER_NAME"),
    (["SOLVER.BASE_LR_END", "1.0"], r"SOLVER\.BASE_LR_END"),
    (["SOLVER.NESTEROV", "True", "SOLVER.MOMENTUM", "0"], r"SOLVER\.NESTEROV"),
    (["SOLVER.AMP.ENABLED", "True"], r"SOLVER\.AMP\.ENABLED.*needs a GPU"),
    (["MODEL.DEVICE", "gpu"], r"MODEL\.DEVICE is 'gpu'"),
    (["MODEL.DEVICE", "cuda:99"], r"MODEL\.DEVICE is 'cuda:99'"),
    (["MODEL.PIXEL_MEAN", "[0.5]"], r"pixel mean \[0\.5\]"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[" ".join(case[0]) for case in BAD])
def test_bad_input_is_one_error_and_leaves_no_folder(
    tmp_path: Path, tiny_options: list[str], options: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        main(arguments(tmp_path / "run", [*tiny_options, *options]))
    assert not (tmp_path / "run").exists()


def test_without_probes_a_run_ends_with_the_figures_of_its_last_batch(tmp_path: Path, tiny_options: list[str]) -> None:
    output = tmp_path / "run"
    options = [*tiny_options, "PROBE.ENABLED", "False", "SOLVER.MAX_ITER", "2", "TEST.EVAL_PERIOD", "1"]
    assert main(arguments(output, options)) == 0
    results = read_json(output / "results.json")
    last = read_metrics(output)[-1]
    names = ("embedding_mean_norm", "embedding_rankme", "embedding_length")
    assert results["metrics"] == {name: last[name] for name in names}
    assert "singular_values" not in results
    assert not any(key.startswith("probe/") for line in read_metrics(output) for key in line)
    assert not (output / "model_best.pth").exists()
    assert (output / "curves.png").exists()


def test_a_stop_signal_during_the_first_probes_is_obeyed(
    whole: Path, tmp_path: Path, tiny_options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output, before_train = tmp_path / "stopped", ProbeHook.before_train

    def signalled(self: ProbeHook) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        before_train(self)

    previous = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("no handler of the run stands yet"))
    try:
        with monkeypatch.context() as patch, pytest.raises(StopRequested):
            patch.setattr(ProbeHook, "before_train", signalled)
            main(arguments(output, tiny_options))
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert (output / "model_0000000.pth").exists()
    assert main(arguments(output, tiny_options, "--resume")) == 0
    same_files(whole, output)


def test_a_class_without_images_is_named(tmp_path: Path, tiny_options: list[str]) -> None:
    root = tmp_path / "images"
    write_images(root, "train", 3, 8)
    write_images(root, "val", 3, 2)
    (root / "train" / "empty").mkdir()
    with pytest.raises(UserError, match="empty"):
        main(arguments(tmp_path / "run", [*tiny_options, "CLASSIFICATION.ROOT", str(root)]))


def test_an_unreadable_image_is_named(tmp_path: Path, tiny_options: list[str]) -> None:
    root = tmp_path / "images"
    write_images(root, "train", 3, 8)
    write_images(root, "val", 3, 2)
    broken = root / "train" / "class1" / "003.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(UserError, match=r"class1.003\.png"):
        main(arguments(tmp_path / "run", [*tiny_options, "CLASSIFICATION.ROOT", str(root)]))


def test_the_tool_exits_with_two_and_no_traceback(tmp_path: Path) -> None:
    words = ["--config-file", "pretrain/resnet18_digits.yaml", "LOSS.NAM", "clop"]
    done = run_python([ROOT / "tools" / "pretrain.py", *words], tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("error: unknown config key LOSS.NAM")
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []
