"""The whole chain of one room: train, evaluate, resume, stop, refuse; through the command line's own entry."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
import yaml
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN
from detectron2.utils.events import EventStorage

from clop_det.detection.cli import main
from clop_det.detection.evaluation import Evaluation, TestSet
from clop_det.detection.trainer import DetectionTrainer
from clop_det.engine.metrics import read_metrics
from clop_det.engine.stop import StopRequested
from clop_det.errors import UserError
from clop_det.files import read_json
from tests.detection.conftest import CONFIG, entries


def command(options: list[str], folder: Path, *flags: str, **changes: Any) -> list[str]:
    extra = [str(word) for item in changes.items() for word in (item[0].replace("__", "."), item[1])]
    return ["--config-file", CONFIG, *flags, *options, *extra, "OUTPUT_DIR", str(folder)]


@pytest.fixture(scope="module")
def finished(tiny_options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six iterations that nothing disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert main(command(tiny_options, folder)) == 0
    return folder


def test_a_run_leaves_what_a_run_must_leave(finished: Path) -> None:
    for name in ("config.yaml", "log.txt", "metrics.json", "model_final.pth", "detections.png", "precision_recall.png"):
        assert (finished / name).is_file(), name
    assert list(finished.glob("events.out.tfevents.*"))
    results = read_json(finished / "results.json")
    assert (results["kind"], results["init"], results["label_fraction"]) == ("detection", "random", None)
    for key in (
        "bbox/AP",
        "coco/AP50",
        "voc07/AP",
        "voc12/AP75",
        "probe/knn_top1",
        "probe/linear_top1",
        "probe/rankme",
        "probe/object_knn_top1",
        "probe/object_knn200_top1",
        "probe/object_linear_top1",
        "probe/object_rankme",
        "probe/object_simplex_etf_gap",
    ):
        assert key in results["metrics"], key
    assert set(results["coco_backend"]) == {"name", "version"}
    assert results["metrics"]["bbox/AP"] == results["metrics"]["voc07/AP"]  # evaluator_type pascal_voc, year 2007
    assert yaml.safe_load((finished / "config.yaml").read_text())["MODEL"]["ROI_HEADS"]["NUM_CLASSES"] == 3


def test_metrics_hold_losses_ap_and_probes_by_iteration(finished: Path) -> None:
    lines = {line["iteration"]: line for line in read_metrics(finished)}
    assert {"probe/knn_top1", "probe/object_knn_top1"} <= set(lines[0])  # the initialisation, before the first step
    assert "bbox/AP" not in lines[0]
    for iteration in (2, 5):
        assert {"bbox/AP", "coco/AP", "probe/linear_top1", "total_loss", "lr"} <= set(lines[iteration])
    assert not any("time" in key for line in lines.values() for key in line)


def test_the_coco_layout_has_cocos_headline(tiny_options: list[str], shapes_root: Path, tmp_path: Path) -> None:
    changes = {
        "DATASETS__REGISTER": entries(shapes_root, "coco"),
        "DATASETS__TRAIN": ("shapes_coco_train",),
        "DATASETS__TEST": ("shapes_coco_test",),
        "SOLVER__MAX_ITER": 2,
    }
    assert main(command(tiny_options, tmp_path / "coco", **changes)) == 0
    metrics = read_json(tmp_path / "coco" / "results.json")["metrics"]
    assert metrics["bbox/AP"] == metrics["coco/AP"]
    assert "voc07/AP" in metrics


class Crash(Exception):
    pass


@pytest.mark.parametrize("crash_at", [3, 4])
def test_resuming_after_a_crash_gives_the_same_bytes(
    finished: Path, tiny_options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_at: int
) -> None:
    step = DetectionTrainer.run_step

    def crashing(self: DetectionTrainer) -> None:
        if self.iter == crash_at:
            raise Crash
        step(self)

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(DetectionTrainer, "run_step", crashing)
        main(command(tiny_options, tmp_path / "run"))
    torch.rand(17)  # whatever the global generators did meanwhile must not matter
    assert main(command(tiny_options, tmp_path / "run", "--resume")) == 0
    assert (tmp_path / "run" / "metrics.json").read_bytes() == (finished / "metrics.json").read_bytes()
    assert same_weights(finished, tmp_path / "run")


def same_weights(one: Path, other: Path) -> bool:
    a, b = (torch.load(f / "model_final.pth", weights_only=True)["model"] for f in (one, other))
    return all(torch.equal(a[key], b[key]) for key in a)


def test_resuming_after_kill_9_gives_the_same_bytes(tiny_options: list[str], tmp_path: Path) -> None:
    changes = {"SOLVER__MAX_ITER": 9, "TEST__EVAL_PERIOD": 0, "PROBE__ENABLED": False, "TEST__PICTURES": 0}
    assert main(command(tiny_options, tmp_path / "whole", **changes)) == 0
    folder = tmp_path / "killed"
    words = [sys.executable, "-W", "ignore", "-m", "clop_det.detection", *command(tiny_options, folder, **changes)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 120
    while not (folder / "model_0000002.pth.sha256").exists() and time.time() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert main(command(tiny_options, folder, "--resume", **changes)) == 0
    assert (folder / "metrics.json").read_bytes() == (tmp_path / "whole" / "metrics.json").read_bytes()
    assert same_weights(tmp_path / "whole", folder)


def test_a_stop_signal_ends_the_run_and_resuming_completes_it(
    finished: Path, tiny_options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = DetectionTrainer.run_step

    def stopping_step(self: DetectionTrainer) -> None:
        if self.iter == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        step(self)

    with monkeypatch.context() as patch, pytest.raises(StopRequested):
        patch.setattr(DetectionTrainer, "run_step", stopping_step)
        main(command(tiny_options, tmp_path / "run"))
    assert main(command(tiny_options, tmp_path / "run", "--resume")) == 0
    ours, theirs = (read_metrics(folder) for folder in (tmp_path / "run", finished))
    assert {line["iteration"]: line for line in theirs}.items() <= {line["iteration"]: line for line in ours}.items()
    assert same_weights(finished, tmp_path / "run")


WATCHED = {
    "SOLVER__MAX_ITER": 3,
    "TEST__EVAL_PERIOD": 1,
    "TEST__PRECISE_BN__ENABLED": True,
    "TEST__PRECISE_BN__NUM_ITER": 3,
    "TEST__KEEP_BEST": "probe/object_knn_top1",
    "TEST__PICTURES": 0,
}


@pytest.fixture(scope="module")
def watched(tiny_options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is evaluated after each of three steps, saved after the last, and that nothing disturbed."""
    folder = tmp_path_factory.mktemp("watched") / "whole"
    assert main(command(tiny_options, folder, **WATCHED)) == 0
    return folder


@pytest.mark.parametrize(
    ("where", "iteration"), [("start", -1), ("inference", 0), ("precise bn", 1), ("probes", 1), ("inference", 2)]
)
def test_a_stop_within_an_evaluation_loses_nothing(
    watched: Path,
    tiny_options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    iteration: int,
) -> None:
    step, probes, batches = DetectionTrainer._step, DetectionTrainer.run_probes, DetectionTrainer._bn_batches
    inference = TestSet.evaluate
    steps: list[int] = []

    def counted(self: DetectionTrainer, losses: dict[str, Any]) -> None:
        steps.append(self.iter)
        step(self, losses)

    def stop(place: str) -> None:
        if place == where and (steps or [-1])[-1] == iteration:
            os.kill(os.getpid(), signal.SIGTERM)

    def stopping_probes(self: DetectionTrainer) -> dict[str, float]:
        stop("probes" if steps else "start")
        return probes(self)

    def stopping_batches(self: DetectionTrainer) -> Iterator[Any]:
        for place, batch in enumerate(batches(self)):
            if place == 1:
                stop("precise bn")
            yield batch

    def stopping_inference(self: TestSet, *arguments: Any) -> Evaluation | None:
        stop("inference")
        return inference(self, *arguments)

    def uncaught(number: int, frame: FrameType | None) -> None:
        raise AssertionError("the signal would have killed the process")

    previous = signal.signal(signal.SIGTERM, uncaught)
    monkeypatch.setattr(DetectionTrainer, "_step", counted)
    with monkeypatch.context() as patch, pytest.raises(StopRequested):
        patch.setattr(DetectionTrainer, "run_probes", stopping_probes)
        patch.setattr(DetectionTrainer, "_bn_batches", stopping_batches)
        patch.setattr(TestSet, "evaluate", stopping_inference)
        main(command(tiny_options, tmp_path / "run", **WATCHED))
    assert signal.signal(signal.SIGTERM, previous) is uncaught
    assert main(command(tiny_options, tmp_path / "run", "--resume", **WATCHED)) == 0
    assert steps == [0, 1, 2]
    assert (tmp_path / "run" / "metrics.json").read_bytes() == (watched / "metrics.json").read_bytes()
    assert same_weights(watched, tmp_path / "run")
    best, theirs = (torch.load(f / "model_best.pth", weights_only=True) for f in (tmp_path / "run", watched))
    assert best["iteration"] == theirs["iteration"]
    assert best["trainer"]["hooks"] == theirs["trainer"]["hooks"]


def test_resuming_a_finished_run_only_writes_its_results_again(
    finished: Path, tiny_options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_json(finished / "results.json")["metrics"]
    (finished / "results.json").unlink()

    def refuse(self: DetectionTrainer) -> None:
        raise AssertionError("a finished run must not train")

    monkeypatch.setattr(DetectionTrainer, "run_step", refuse)
    assert main(command(tiny_options, finished, "--resume")) == 0
    assert read_json(finished / "results.json")["metrics"] == before


@pytest.mark.parametrize("lost", [("model_final.pth", "model_final.pth.sha256"), ("metrics.json",), ()])
def test_resuming_a_run_killed_behind_its_last_step_leaves_all_of_it(
    finished: Path, tiny_options: list[str], tmp_path: Path, lost: tuple[str, ...]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for name in ("results.json", "detections.png", "precision_recall.png", *lost):
        (folder / name).unlink(missing_ok=True)
    assert main(command(tiny_options, folder, "--resume")) == 0
    for name in ("detections.png", "precision_recall.png", "model_final.pth", "model_final.pth.sha256"):
        assert (folder / name).is_file(), name
    assert read_json(folder / "results.json")["metrics"] == read_json(finished / "results.json")["metrics"]
    assert same_weights(finished, folder)


def test_a_failing_picture_does_not_cost_the_results(
    finished: Path, tiny_options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    for name in ("results.json", "precision_recall.png"):
        (tmp_path / "run" / name).unlink()

    def fail(self: DetectionTrainer) -> None:
        raise Crash

    monkeypatch.setattr(DetectionTrainer, "draw", fail)
    with pytest.raises(Crash):
        main(command(tiny_options, tmp_path / "run", "--resume"))
    assert (tmp_path / "run" / "results.json").is_file()


def test_eval_only_repeats_the_final_figures(finished: Path, tiny_options: list[str], tmp_path: Path) -> None:
    weights = str(finished / "model_final.pth")
    assert main(command(tiny_options, tmp_path / "eval", "--eval-only", MODEL__WEIGHTS=weights)) == 0
    again = read_json(tmp_path / "eval" / "evaluation.json")["metrics"]
    final = read_json(finished / "results.json")["metrics"]
    assert {key: pytest.approx(value) for key, value in final.items()} == again
    assert not (tmp_path / "eval" / "config.yaml").exists()


def spoiled_detector(finished: Path, path: Path, how: str) -> str:
    """The finished run's weights without its heads, or with those of a detector of one class."""
    content = torch.load(finished / "model_final.pth", weights_only=True)
    if how == "backbone":
        model = {key: value for key, value in content["model"].items() if key.startswith("backbone.bottom_up.")}
    else:
        model = content["model"]
        for key, rows in {"cls_score": 2, "bbox_pred": 4}.items():
            for part in ("weight", "bias"):
                name = f"roi_heads.box_predictor.{key}.{part}"
                model[name] = model[name][:rows].clone()
    torch.save({"model": model, "provenance": content["provenance"]}, path)
    return str(path)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("backbone", r"missing or of another shape: backbone\.fpn_lateral2\.weight, .*--eval-only --resume"),
        ("classes", r"cls_score\.weight \(\(2, 16\) in the file, \(4, 16\) in the model\)"),
    ],
)
def test_eval_only_refuses_weights_that_leave_heads_random(
    finished: Path, tiny_options: list[str], tmp_path: Path, how: str, message: str
) -> None:
    weights = spoiled_detector(finished, tmp_path / "weights.pth", how)
    with pytest.raises(UserError, match=message):
        main(command(tiny_options, tmp_path / "eval", "--eval-only", MODEL__WEIGHTS=weights))
    assert not (tmp_path / "eval" / "evaluation.json").exists()


def test_eval_only_with_resume_takes_the_last_checkpoint_of_the_folder(
    finished: Path, tiny_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("model_final.pth*"))
    weights = spoiled_detector(finished, tmp_path / "weights.pth", "backbone")
    assert main(command(tiny_options, folder, "--eval-only", "--resume", MODEL__WEIGHTS=weights)) == 0
    found = read_json(folder / "evaluation.json")
    assert found["weights"] == str(folder / "model_0000005.pth")
    assert found["metrics"] == pytest.approx(read_json(finished / "results.json")["metrics"])
    assert "model_0000005.pth after 6 iterations\n" in capsys.readouterr().out
    with pytest.raises(UserError, match="holds none"):
        main(command(tiny_options, tmp_path / "empty", "--eval-only", "--resume", MODEL__WEIGHTS=weights))


def test_expected_results_are_verified_and_a_miss_fails_the_run(
    finished: Path, tiny_options: list[str], tmp_path: Path
) -> None:
    weights, figures = str(finished / "model_final.pth"), read_json(finished / "results.json")["metrics"]
    right = [
        ["bbox", "AP", figures["bbox/AP"], 0.01],
        ["probe", "object_knn_top1", figures["probe/object_knn_top1"], 0],
    ]
    words = command(tiny_options, tmp_path / "run", "--eval-only", MODEL__WEIGHTS=weights)
    assert main([*words, "TEST.EXPECTED_RESULTS", str(right)]) == 0
    for wrong in (["bbox", "AP", figures["bbox/AP"] + 1, 0.5], ["segm", "AP", 0, 100]):
        with pytest.raises(SystemExit) as failure:
            main([*words, "TEST.EXPECTED_RESULTS", str([*right, wrong])])
        assert failure.value.code == 1
        assert (tmp_path / "run" / "evaluation.json").is_file()


def test_the_best_checkpoint_is_kept_and_remembered(tiny_options: list[str], tmp_path: Path) -> None:
    assert main(command(tiny_options, tmp_path / "run", TEST__KEEP_BEST="probe/knn_top1", TEST__EVAL_PERIOD=1)) == 0
    best = torch.load(tmp_path / "run" / "model_best.pth", weights_only=True)
    values = {line["iteration"]: line["probe/knn_top1"] for line in read_metrics(tmp_path / "run")}
    by_step = {i: v for i, v in values.items() if i > 0 or len(values) == 1}
    assert values[best["iteration"]] == max([*by_step.values(), values[best["iteration"]]])
    last = torch.load(tmp_path / "run" / "model_final.pth", weights_only=True)
    assert last["trainer"]["hooks"]["BestCheckpoint"] == {
        "best": values[best["iteration"]],
        "iteration": best["iteration"],
    }


def test_precise_bn_is_a_function_of_the_iteration(tiny_cfg: CfgNode) -> None:
    tiny_cfg.TEST.PRECISE_BN.ENABLED = True
    tiny_cfg.TEST.PRECISE_BN.NUM_ITER = 2
    tiny_cfg.PROBE.ENABLED = False
    statistics = []
    for shift in (0, 3):
        trainer = DetectionTrainer(tiny_cfg, {})
        trainer.iter = 4
        torch.rand(shift)
        trainer.make_bn_precise()
        statistics.append(trainer.core.backbone.bottom_up.res5[0].conv1.norm.running_mean.clone())
    assert torch.equal(*statistics)


def test_fp16_scales_its_gradients_and_keeps_the_scale_on_resuming(
    tiny_cfg: CfgNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path that GPUs take, on the CPU, where a run is refused because it would only be slow."""
    monkeypatch.setattr("clop_det.detection.model.check_model", lambda cfg: None)
    tiny_cfg.SOLVER.AMP.ENABLED = True
    tiny_cfg.PROBE.ENABLED = False
    trainer = DetectionTrainer(tiny_cfg, {})
    assert not trainer.bf16  # evaluations compute in fp32, as Detectron2's do
    trainer.data_loader = trainer._loader("train", 0)
    key = "roi_heads.box_predictor.cls_score.weight"
    before = trainer.core.state_dict()[key].clone()
    with EventStorage(0) as trainer.storage:
        trainer.iter = trainer.start_iter = 0
        trainer.run_step()
        first = trainer.storage.latest()["total_loss"][0]
    after = trainer.core.state_dict()[key]
    assert 0 < first < 100
    assert torch.isfinite(after).all()
    assert 0 < (after - before).abs().max() < 0.1  # scaled gradients would be 65536 times as large
    trainer.scaler.update(128.0)
    again = DetectionTrainer(tiny_cfg, {})
    again.load_state_dict(trainer.state_dict())
    assert again.scaler.get_scale() == 128.0


@pytest.mark.parametrize("what", ["weights", "loss"])
def test_a_diverged_run_is_one_clear_error(
    tiny_options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    changes: dict[str, Any] = {"PROBE__ENABLED": False, "SOLVER__WARMUP_ITERS": 0}
    if what == "weights":  # Detectron2 finds the proposals of the next step not finite
        changes["SOLVER__BASE_LR"] = 1e30
    else:
        forward = GeneralizedRCNN.forward

        def spoiled(self: GeneralizedRCNN, batch: Any) -> Any:
            losses = forward(self, batch)
            return {**losses, "loss_cls": losses["loss_cls"] * float("nan")}

        monkeypatch.setattr(GeneralizedRCNN, "forward", spoiled)
    parts = "loss_cls nan, loss_box_reg " if what == "loss" else "loss_cls "
    with pytest.raises(UserError, match=rf"^iteration [01] is not finite \(.*{parts}.*Lower SOLVER\.BASE_LR") as error:
        main(command(tiny_options, tmp_path / "run", **changes))
    assert "\n" not in str(error.value)
    assert "Traceback" not in (tmp_path / "run" / "log.txt").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MODEL__WEIGHTS": "no/such.pth"}, "does not exist"),
        ({"SEED": -1}, "SEED is -1"),
        ({"MODEL__BACKBONE__FREEZE_AT": 2}, "would never learn"),
        ({"MODEL__RESNETS__NORM": "FrozenBN"}, "would never learn"),
        ({"MODEL__ROI_HEADS__NUM_CLASSES": 7}, "3 classes"),
        ({"MODEL__ROI_ALIGN": "fast"}, "MODEL.ROI_ALIGN"),
        ({"MODEL__ROI_HEADS__NAME": "Res5ROIHeads"}, "mixture of two networks"),
        ({"SOLVER__IMS_PER_BATCHES": 3}, "Did you mean SOLVER.IMS_PER_BATCH"),
        ({"DATASETS__TEST": ()}, "must each name a data set"),
        ({"TEST__COCO_BACKEND": "fast"}, "TEST.COCO_BACKEND"),
        ({"TEST__EXPECTED_RESULTS": [["bbox", "AP", 3]]}, r"\[task, metric, value, tolerance\]"),
        ({"SOLVER__AMP__ENABLED": True}, "fp16 with scaled gradients, which needs a GPU"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    tiny_options: list[str], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        main(command(tiny_options, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_a_folder_with_another_run_is_refused(finished: Path, tiny_options: list[str]) -> None:
    before = json.dumps(sorted(str(p) for p in finished.iterdir()))
    with pytest.raises(UserError, match=r"SOLVER\.BASE_LR"):
        main(command(tiny_options, finished, "--resume", SOLVER__BASE_LR=0.5))
    with pytest.raises(UserError, match="--resume"):
        main(command(tiny_options, finished))
    assert json.dumps(sorted(str(p) for p in finished.iterdir())) == before


def test_unreadable_image_is_named(tiny_cfg: CfgNode, shapes_root: Path, tmp_path: Path) -> None:
    from clop_det.detection.datasets import register_datasets

    copy = tmp_path / "broken"
    shutil.copytree(shapes_root, copy)
    (copy / "JPEGImages" / "test_00.png").write_bytes(b"not an image")
    register_datasets(entries(copy, "voc", "broken"))
    tiny_cfg.DATASETS.TEST = ("broken_voc_test",)
    tiny_cfg.PROBE.ENABLED = False
    with pytest.raises(UserError, match=r"test_00\.png is no image"):
        DetectionTrainer(tiny_cfg, {}, train=False)
