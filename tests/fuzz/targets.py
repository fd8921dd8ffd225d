"""What reads a file of somebody's: sound files to begin with, and the call that must end in a documented way."""

from __future__ import annotations

import hashlib
import json
import pickle
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from clop_det.annotations.datasets import forget, load_dataset, register_datasets
from clop_det.checkpoints.reading import read_checkpoint, read_provenance
from clop_det.comparison.report import csv_files, tables
from clop_det.comparison.report.examples import galleries
from clop_det.comparison.report.html import render_page
from clop_det.comparison.report.writing import write_report
from clop_det.comparison.results.summary import read_comparison
from clop_det.config.reading import read_config
from clop_det.conversion.contents import flatten
from clop_det.data.image_list import ImageList
from clop_det.data.layouts.registry import read_images
from clop_det.data.split_files import load_split, save_split
from clop_det.data.splits import VisibleLabels
from clop_det.data.store import open_store
from clop_det.data.store_build import JOURNAL, PIXELS, SOURCES, _recover
from clop_det.engine.metrics import drop_lines_from, read_metrics
from tests.fuzz.mutations import mutated_bytes, mutated_json, mutated_lines
from tests.fuzz.report_targets import KEPT, keep, prepare_archive, read_archive

Mutate = Callable[[random.Random, bytes], bytes]


@dataclass
class Target:
    """Attributes:
    files: files of a prepared folder, one of which is mutated each time, with how that is done.
    read: what is done with the folder then.
    """

    files: list[tuple[str, Mutate]]
    read: Callable[[Path], Any]


def prepare_voc(folder: Path) -> Target:
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(folder / "JPEGImages" / "a.jpg")
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    objects = "".join(
        f"<object><name>{name}</name><difficult>{k}</difficult><truncated>0</truncated><bndbox><xmin>{1 + k}</xmin>"
        f"<ymin>2</ymin><xmax>{20 + k}</xmax><ymax>25</ymax></bndbox></object>"
        for k, name in enumerate(("cat", "dog"))
    )
    size = "<size><width>40</width><height>30</height></size>"
    text = f"<?xml version='1.0'?><annotation><filename>a.jpg</filename>{size}{objects}</annotation>"
    (folder / "Annotations" / "a.xml").write_text(text)
    entry = {"NAME": "fuzzed_voc", "LAYOUT": "voc", "ROOT": str(folder), "SPLIT": "train", "CLASSES": ["cat", "dog"]}
    files = [("Annotations/a.xml", mutated_bytes)] * 4 + [("ImageSets/Main/train.txt", mutated_bytes)]
    return Target(files, lambda _: load_registered(entry))


def prepare_coco(folder: Path) -> Target:
    (folder / "images").mkdir()
    Image.new("RGB", (40, 30)).save(folder / "images" / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog", "supercategory": "animal"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 12], "area": 120, "iscrowd": 0},
            {
                **{"id": 2, "image_id": 1, "category_id": 7, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0},
                "segmentation": [[5, 5, 25, 5, 25, 25, 5, 25]],
            },
            {
                **{"id": 3, "image_id": 1, "category_id": 7, "bbox": [0, 0, 4, 3], "area": 12, "iscrowd": 1},
                "segmentation": {"size": [30, 40], "counts": [0, 3, 27, 3, 1167]},
            },
        ],
    }
    (folder / "a.json").write_text(json.dumps(content))
    entry = {"NAME": "fuzzed_coco", "LAYOUT": "coco", "ROOT": str(folder), "JSON": "a.json", "IMAGE_DIR": "images"}
    return Target([("a.json", mutated_json)], lambda _: load_registered(entry))


def load_registered(entry: dict[str, Any]) -> None:
    try:
        register_datasets([entry])
        load_dataset(entry["NAME"])
        load_dataset(entry["NAME"], masked=True)
    finally:
        forget(entry["NAME"])


def some_images(folder: Path) -> ImageList:
    files = tuple(f"{label}/{k}.png" for label in "ab" for k in range(3))
    for number, file in enumerate(files):
        (folder / file).parent.mkdir(exist_ok=True)
        Image.new("RGB", (9, 8), (number * 40, 7, 99)).save(folder / file)
    return ImageList(folder, files, torch.tensor([0, 0, 0, 1, 1, 1]), ("a", "b"))


def prepare_split(folder: Path) -> Target:
    images = some_images(folder)
    visible = VisibleLabels(torch.tensor([0, 4]), torch.tensor([0, 1]))
    save_split(folder / "split.json", images, visible, {"fraction": 0.3, "seed": 1})
    (folder / "split.txt").write_text("0.png\nb/1.png\n".replace("0.png", "a/0.png"))

    def read(_: Path) -> None:
        load_split(folder / "split.json", images)
        load_split(folder / "split.txt", images)

    return Target([("split.json", mutated_json), ("split.txt", mutated_bytes)], read)


def prepare_table(folder: Path) -> Target:
    some_images(folder)
    (folder / "train.csv").write_text("path,label\na/0.png,a\na/1.png,\nb/0.png,b\n")
    (folder / "val.csv").write_text('path,label\n"a/2.png",a\nb/1.png,"b"\n')
    files = [("train.csv", mutated_bytes), ("val.csv", mutated_bytes)]
    return Target(files, lambda _: read_images("csv", folder, "train"))


def some_weights() -> dict[str, Any]:
    state = {"conv1.weight": torch.randn(4, 3, 3, 3), "bn1.bias": torch.zeros(4), "n": torch.tensor(3)}
    provenance = {"arch": "resnet18", "loss": "clop", "pixel_mean": [1.0, 2.0, 3.0]}
    return {"model": {f"module.{name}": value for name, value in state.items()}, "epoch": 3, "provenance": provenance}


def read_weights(path: Path) -> None:
    for verify in (True, False):
        try:
            flatten(read_checkpoint(path, verify=verify), path)
        finally:
            read_provenance(path)


def prepare_pth(folder: Path) -> Target:
    torch.save(some_weights(), folder / "a.pth")
    torch.save(some_weights(), folder / "old.pth", _use_new_zipfile_serialization=False)

    def read(_: Path) -> None:
        read_weights(folder / "a.pth")
        read_weights(folder / "old.pth")

    return Target([("a.pth", mutated_bytes), ("old.pth", mutated_bytes)], read)


def prepare_pkl(folder: Path) -> Target:
    arrays = {"conv1_w": np.ones((4, 3, 3, 3), np.float32), "res2": [np.arange(3), np.float64(2), (b"x", "y", None)]}
    for protocol in (0, 2, 4, 5):
        with (folder / f"{protocol}.pkl").open("wb") as file:
            pickle.dump({"model": arrays, "__author__": "a", "shared": [arrays["res2"]] * 2}, file, protocol)

    def read(_: Path) -> None:
        for protocol in (0, 2, 4, 5):
            read_weights(folder / f"{protocol}.pkl")

    return Target([(f"{protocol}.pkl", mutated_bytes) for protocol in (0, 2, 4, 5)], read)


def prepare_safetensors(folder: Path) -> Target:
    state = {"model.conv1.weight": torch.randn(4, 3, 3, 3), "model.bn1.bias": torch.zeros(4)}
    save_file(state, folder / "a.safetensors", {"provenance": json.dumps({"arch": "resnet18", "seed": 3})})
    return Target([("a.safetensors", mutated_bytes)], lambda _: read_weights(folder / "a.safetensors"))


def prepare_store(folder: Path) -> Target:
    images = some_images(folder)
    whole = open_store(images, 4, folder / "cache")
    pixels = whole.images[torch.arange(6)]
    (stored,) = (folder / "cache").glob("*-4px")
    names = [str(path.relative_to(folder)) for path in sorted(stored.iterdir()) if path.is_file()]

    def read(_: Path) -> None:
        opened = open_store(images, 4, folder / "cache")
        assert torch.equal(opened.images[torch.arange(6)], pixels), "other pixels than were decoded"

    return Target([(name, mutated_json if name.endswith("json") else mutated_bytes) for name in names], read)


def prepare_journal(folder: Path) -> Target:
    """A store's build that was killed after two of three images."""
    pixels, sources = bytes(range(48)) * 2, b"s" * 64
    chunks = [pixels[:48] + sources[:32], pixels[48:] + sources[32:]]
    lines = [{"images": 1, "sha256": hashlib.sha256(chunk).hexdigest(), "replaced": {"0": 1}} for chunk in chunks]
    (folder / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))

    def read(_: Path) -> None:
        (folder / PIXELS).write_bytes(pixels)
        (folder / SOURCES).write_bytes(sources)
        state = _recover(folder, 3, 4)
        assert (folder / PIXELS).read_bytes() == pixels[: 48 * state.done], "other pixels than were decoded"

    return Target([(JOURNAL, mutated_lines)], read)


def prepare_metrics(folder: Path) -> Target:
    lines = [{"iteration": k, "loss": 1 / (k + 1), "bbox/AP": 3.5, "probe/knn_top1": 0.25} for k in range(6)]
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def read(_: Path) -> None:
        read_metrics(folder)
        drop_lines_from(folder / "metrics.json", 4)
        assert all(line["iteration"] < 4 for line in read_metrics(folder))

    return Target([("metrics.json", mutated_lines)], read)


def prepare_config(folder: Path) -> Target:
    (folder / "base.yaml").write_text("SOLVER: {BASE_LR: 0.1, STEPS: (3, 4)}\nLOSS: {NAME: clop}\n")
    (folder / "a.yaml").write_text("_BASE_: base.yaml\nSOLVER: &s\n  MAX_ITER: 12\nDATASETS: {TRAIN: [a]}\n")
    files = [("a.yaml", mutated_bytes), ("base.yaml", mutated_bytes)]
    return Target(files, lambda _: read_config(str(folder / "a.yaml"), []))


def prepare_runs(folder: Path) -> Target:
    """A comparison of two initialisations and two seeds, with an inspection, made by hand."""
    cells = []
    for init in ("random", "clop"):
        for seed in (0, 1):
            run = folder / "out" / "jobs" / f"detect-{init}-{seed}"
            look = folder / "out" / "jobs" / f"inspect-{init}-{seed}"
            _write_run(run, init, seed)
            _write_inspection(look, run.name)
            cells.append(
                {
                    **{"init": init, "label_fraction": 0.1 if init == "clop" else None, "seed": seed, "detection": "d"},
                    **{"pretrain_grid": {}, "detection_grid": {"SOLVER.BASE_LR": 0.1}, "pretrain": "", "convert": ""},
                    **{"detect": run.name, "inspect": look.name},
                }
            )
    plan = {"name": "n", "description": "d", "baseline": "random", "metric": "AP", "example_score": 0.0, "select": {}}
    (folder / "out" / "plan.json").write_text(json.dumps({**plan, "inits": ["random", "clop"], "cells": cells}))
    top = "out/jobs/detect-clop-0/"
    files: list[tuple[str, Mutate]] = [(f"{top}{name}.json", mutated_json) for name in ("job", "results")]
    files += [
        ("out/plan.json", mutated_json),
        (f"{top}metrics.json", mutated_lines),
        (f"{top}config.yaml", mutated_bytes),
    ]
    files += [(f"out/jobs/inspect-clop-0/{name}.json", mutated_json) for name in ("examples", "results", "job")]
    files += [("out/jobs/inspect-clop-0/0.png", mutated_bytes)]
    files += [(top + name, mutate) for name, mutate in KEPT]
    count = 0

    def read(_: Path) -> None:
        nonlocal count
        comparison = read_comparison([folder / "out"])
        tables.printed_table(comparison)
        tables.latex_table(comparison)
        csv_files.results_csv(comparison)
        csv_files.differences_csv(comparison)
        render_page(comparison, [], galleries(comparison))
        count += 1
        if count % 100 == 0:  # pictures take a hundred times as long
            write_report(comparison, folder / "report")
            assert sorted(path.name for path in folder.iterdir()) == ["out", "report"], "written outside"

    return Target(files, read)


def prepare_bundle(folder: Path) -> Target:
    prepare_archive(folder)
    names = [("manifest.json", mutated_json), ("results.json", mutated_json), ("report.zip", mutated_bytes)]
    return Target([*KEPT, *names], read_archive)


def _write_run(run: Path, init: str, seed: int) -> None:
    run.mkdir(parents=True)
    keep(run)
    facts = {"init": init, "loss": init, "label_fraction": None, "seed": seed, "detection": "d", "pretrain_grid": {}}
    attempt = {"seconds": 3.0, "exit_code": 0, "reason": "", "cores": 2, "stopped": False}
    job = {
        "kind": "detect",
        "name": run.name,
        "digest": "abc",
        **facts,
        "attempts": [attempt],
        "values": {"SEED": seed},
    }
    (run / "job.json").write_text(json.dumps({**job, "detection_grid": {"SOLVER.BASE_LR": 0.1}}))
    lines = [{"iteration": k, "bbox/AP": 3.0 + k + seed, "probe/knn_top1": 0.2 + k / 10} for k in range(3)]
    (run / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    metrics = {"bbox/AP": 5.0 + seed, "bbox/AP50": 9.0, "coco/AP": 5.0, "probe/knn_top1": 0.4}
    provenance = {"commit": "abc", "device": "cpu (x86_64)", "torch": "2", "finished": "2026-01-01T00:00:00Z"}
    results = {"kind": "detection", "seed": seed, "init": init, "metrics": metrics, "provenance": provenance}
    (run / "results.json").write_text(json.dumps({**results, "init_singular_values": [3.0, 2.0, 0.5]}))
    (run / "config.yaml").write_text("DATASETS: {TEST: [b]}\n")


def _write_inspection(look: Path, run: str) -> None:
    look.mkdir(parents=True)
    (look / "job.json").write_text(json.dumps({"kind": "inspect", "name": look.name, "detect": run, "attempts": []}))
    cosines = [[1.0, -0.5, -0.5], [-0.5, 1.0, -0.5], [-0.5, -0.5, 1.0]]
    results = {
        "kind": "inspection",
        "metrics": {},
        "singular_values_before": [2.0, 1.0],
        "class_cosines_before": cosines,
    }
    (look / "results.json").write_text(json.dumps({**results, "classes": ["a", "b", "c"], "provenance": {}}))
    Image.new("RGB", (20, 16), "red").save(look / "0.png")
    box = {"box": [1.0, 2.0, 10.0, 12.0], "label": "a"}
    image = {"file": "x.jpg", "image": "0.png", "ground_truth": [box], "detections": [{**box, "score": 0.9}]}
    (look / "examples.json").write_text(json.dumps({"data_set": "b", "images": [image]}))


PREPARE: dict[str, Callable[[Path], Target]] = {
    "voc": prepare_voc,
    "coco": prepare_coco,
    "split": prepare_split,
    "table": prepare_table,
    "pth": prepare_pth,
    "pkl": prepare_pkl,
    "safetensors": prepare_safetensors,
    "store": prepare_store,
    "journal": prepare_journal,
    "metrics": prepare_metrics,
    "config": prepare_config,
    "runs": prepare_runs,
    "bundle": prepare_bundle,
}
