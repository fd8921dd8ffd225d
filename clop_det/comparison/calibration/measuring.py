"""The figures of what stored fine-tunings began with: each checkpoint encoded once on each data set, and kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode

from clop_det.checkpoints.reading import read_provenance
from clop_det.comparison.calibration.finished import FineTuning, finished_runs
from clop_det.digests import digest
from clop_det.engine.seeding import generator
from clop_det.errors import UserError
from clop_det.files import sha256_of
from clop_det.ranking.calibration_table import CalibrationRow
from clop_det.ranking.data import ranking_records
from clop_det.ranking.encoding import Encoder
from clop_det.ranking.kept import digest_of, keep, kept, key_of
from clop_det.ranking.measuring import measure
from clop_det.ranking.objects import Objects, choose_objects

Say = Callable[[str], None]


def calibration_rows(
    folders: Sequence[Path], output: Path, boxes: int, side: int, seed: int, allow_imports: bool, say: Say
) -> tuple[list[CalibrationRow], dict[str, str]]:
    """A row for every finished fine-tuning, and what was left out with the reason.

    What was measured is kept in `output`; the same call goes on. Only training images are read.

    Args:
        folders: of comparisons.
        boxes, side, seed: see `clop_det.ranking.ranking.rank`.
        allow_imports: whether to import what the runs' configs name.
        say: called with a line of progress.

    Raises:
        UserError: a folder is none of a comparison.
    """
    runs, left_out = finished_runs(folders, allow_imports)
    bench = _Bench(output / "measured", boxes, side, seed)
    rows = []
    for index, run in enumerate(runs, 1):
        say(f"{index} of {len(runs)}: {run.folder.name}")
        try:
            rows.append(bench.row(run))
        except UserError as error:
            left_out[run.folder.name] = str(error)
            say(f"left out: {error}")
    return rows, left_out


class _Bench:
    """Objects of each data set, read once, and the files of the figures."""

    def __init__(self, folder: Path, boxes: int, side: int, seed: int) -> None:
        self._folder, self._boxes, self._side, self._seed = folder, boxes, side, seed
        self._objects: dict[str, tuple[Objects, str]] = {}

    def row(self, run: FineTuning) -> CalibrationRow:
        objects, of_objects = self._of(run.cfg)
        source = f"random {run.seed}" if run.random else sha256_of(run.weights)
        provenance = read_provenance(run.weights)
        arch = str(provenance["arch"])
        key = key_of(f"{source} {arch}", of_objects, self._seed)
        file = self._folder / f"{digest(key)[:16]}.json"
        content = kept(file, key)
        if content is None:
            started = time.monotonic()
            encoder = Encoder(run.weights, random=run.seed if run.random else None)
            features = encoder.features(objects, self._seed, lambda done, total: None)
            found = measure(objects, features, self._seed, splits=0)
            seconds = (time.monotonic() - started) * torch.get_num_threads()  # counted as those of jobs are
            content = keep(file, key, found, arch, seconds)
        data, share = self._data(run.cfg)
        return CalibrationRow(
            comparison=run.comparison,
            run=run.folder.name,
            task=f"{data}{share} {arch} {run.cfg.MODEL.META_ARCHITECTURE} {run.cfg.SOLVER.MAX_ITER} iterations",
            data=data,
            init=run.init,
            loss="" if run.random else str(provenance.get("loss") or ""),  # a method of its own has none
            label_fraction=run.label_fraction,
            setting=run.setting,
            seed=run.seed,
            arch=arch,
            ap=run.ap,
            tuning_seconds=run.seconds,
            ranking_seconds=float(content["seconds"]),
            figures={name: float(value) for name, value in content["figures"].items()},
        )

    def _data(self, cfg: CfgNode) -> tuple[str, str]:
        """The name of the data set, and the share of its images: the same for every seed, whose images differ."""
        share, whole = float(cfg.DATASETS.TRAIN_FRACTION), cfg.clone()
        whole.defrost()
        whole.DATASETS.TRAIN_FRACTION = 1.0
        named = f"{'+'.join(cfg.DATASETS.TRAIN)} {self._of(whole)[1][:8]}"
        return named, f" {share:.4g} of the images" if share < 1 else ""

    def _of(self, cfg: CfgNode) -> tuple[Objects, str]:
        """The objects of a run's training images: those that it trained on, if it was a fraction."""
        names = ("REGISTER", "TRAIN", "TRAIN_FRACTION", "TRAIN_SPLIT_FILE")
        chosen = cfg.SEED if cfg.DATASETS.TRAIN_FRACTION < 1 else None
        key = digest([str(cfg.DATASETS[name]) for name in names] + [chosen])
        if key not in self._objects:
            found = choose_objects(ranking_records(cfg), self._boxes, self._side, generator(self._seed, "ranking"))
            self._objects[key] = found, digest_of(found)
        return self._objects[key]
