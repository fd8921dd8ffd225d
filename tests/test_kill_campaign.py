"""Kill -9 at moments drawn at random, then --resume: a run ends in the same bytes as one that nothing disturbed.

The points that are known to be delicate have tests of their own (tests/pretraining/test_faults.py); this one knows
nothing. Counts of longer campaigns are in docs/results/reliability.md.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from clop_det.commands import pretrain, train
from tests.comparison.conftest import workplace as workplace
from tests.comparison.workplace import Workplace, lines, wait_for
from tests.detection.conftest import cache_folder as cache_folder
from tests.detection.conftest import crops_root as crops_root
from tests.detection.conftest import shapes_root as shapes_root
from tests.detection.conftest import tiny_options as tiny_options
from tests.detection.runs import command, same_weights
from tests.pretraining.conftest import arguments, same_files, write_images
from tests.processes import CONTEXT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]
PRETRAININGS, FINE_TUNINGS, COMPARISONS = 20, 8, 5
SEED = 20


def start(main: Callable[[list[str]], int], argv: list[str]) -> None:
    torch.set_num_threads(1)
    raise SystemExit(main(argv))


def killed_after(seconds: float, main: Callable[[list[str]], int], argv: list[str]) -> bool:
    """Whether the run was still under way after `seconds`, and was killed."""
    process = CONTEXT.Process(target=start, args=(main, argv))
    process.start()
    process.join(seconds)
    if process.exitcode is None:
        os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def disturbed(
    folder: Path, runs: int, main: Callable[[list[str]], int], words: Callable[[Path, bool], list[str]]
) -> list[Path]:
    """Folders of `runs` runs that were each killed once or twice, and ended after; the first is undisturbed."""
    rng = random.Random(SEED)
    folders = [folder / str(number) for number in range(runs + 1)]
    began = time.monotonic()
    assert not killed_after(10_000, main, words(folders[0], False))
    whole, kills, saved = time.monotonic() - began, 0, 0
    for one in folders[1:]:
        while not killed_after(rng.uniform(0, whole), main, words(one, False)):
            shutil.rmtree(one)  # it was over before: the machine has become faster
            whole *= 0.7
        saved += any(one.glob("*.pth"))
        kills += 1
        if rng.random() < 0.5:
            kills += killed_after(rng.uniform(0, whole), main, words(one, True))
        assert not killed_after(10_000, main, words(one, True))
    print(f"{runs} runs, {kills} kills, {saved} runs had a checkpoint at the first")
    return folders


def test_pretraining(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOP_DET_CACHE", str(tmp_path / "cache"))
    for split, each in (("train", 8), ("val", 4)):
        write_images(tmp_path / "images", split, classes=3, per_class=each)
    options = [
        *("CLASSIFICATION.ROOT", str(tmp_path / "images"), "CLASSIFICATION.IMAGE_SIZE", "32", "MODEL.DEVICE", "cpu"),
        *("SOLVER.IMS_PER_BATCH", "8", "SOLVER.MAX_ITER", "24", "SOLVER.WARMUP_ITERS", "2", "PROBE.KNN.K", "(3, 5)"),
        *("SOLVER.CHECKPOINT_PERIOD", "4", "TEST.EVAL_PERIOD", "6", "LABELS.FRACTION", "0.5"),
        *("PROJECTOR.HIDDEN_DIM", "16", "PROJECTOR.OUT_DIM", "8"),
    ]
    folders = disturbed(
        tmp_path / "runs",
        PRETRAININGS,
        pretrain.main,
        lambda folder, resume: arguments(folder, options, *(["--resume"] if resume else [])),
    )
    for folder in folders[1:]:
        same_files(folders[0], folder)


def test_fine_tuning(tmp_path: Path, tiny_options: list[str]) -> None:
    changes = {"SOLVER__MAX_ITER": 9, "TEST__EVAL_PERIOD": 3, "TEST__PICTURES": 0}
    folders = disturbed(
        tmp_path / "runs",
        FINE_TUNINGS,
        train.main,
        lambda folder, resume: command(tiny_options, folder, *(["--resume"] if resume else []), **changes),
    )
    for folder in folders[1:]:
        assert (folder / "metrics.json").read_bytes() == (folders[0] / "metrics.json").read_bytes()
        assert same_weights(folders[0], folder)


def test_comparison(workplace: Workplace) -> None:
    """The comparison itself is killed once so many of its ten jobs have begun; they are stand-ins for the trainers."""
    workplace.write({"SEEDS": [0, 1]})
    rng, tables = random.Random(SEED), []
    for number in range(COMPARISONS + 1):
        output = workplace.folder / f"out{number}"
        if number:
            begun = len(workplace.started()) + rng.randint(1, 9)
            process = workplace.start("--jobs", "2", "OUTPUT_DIR", str(output))
            wait_for(lambda begun=begun: len(workplace.started()) >= begun)  # type: ignore[misc]
            process.kill()
            process.communicate()
        assert workplace.run("--jobs", "2", "OUTPUT_DIR", str(output)) == 0
        table = lines((output / "report" / "results.csv").read_text())
        tables.append([{key: row[key] for key in ("init", "seed", "AP", "AP50", "status", "run")} for row in table])
    assert all(table == tables[0] for table in tables)
