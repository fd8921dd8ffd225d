"""Checks of what the run needs around it: device, data, disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from clop_det import detectron2_provider
from clop_det.annotations.datasets import set_num_classes, use_datasets
from clop_det.data.opening import list_images
from clop_det.detection.loader import training_records
from clop_det.detection.run_data import data_sets, describe_training, run_checks
from clop_det.doctor.findings import ERROR, OK, WARN, Finding, Situation
from clop_det.engine.device import check_kernels, unused_gpus
from clop_det.engine.launching import check_meeting
from clop_det.engine.workers import shared_memory_free
from clop_det.errors import UserError

_DETECTOR_BYTES = 80 << 20  # heads and pyramid of a ResNet-18 to 50 detector, about


def check_device(situation: Situation) -> Iterator[Finding]:
    """The framework and the device."""
    yield Finding("detectron2", OK, detectron2_provider.describe())
    if "device" in situation.refused:
        return
    device = str(situation.cfg.MODEL.DEVICE)
    check_meeting(situation.processes, device)
    here, count = situation.processes // situation.machines, torch.cuda.device_count()
    if device.startswith("cuda") and count < here:
        yield Finding(
            "device", ERROR, f"{here} processes a machine, but {count} CUDA devices", f"set --num-gpus {count}"
        )
        return
    check_kernels(device)
    if unused := unused_gpus(device):
        yield Finding("device", WARN, unused)
    else:
        yield Finding("device", OK, f"{device}, {situation.processes} process(es)")


def check_data(situation: Situation) -> Iterator[Finding]:
    """Every data set: registered, readable, its images there, its classes those of the model."""
    cfg = situation.cfg.clone()
    use_datasets(cfg)
    set_num_classes(cfg)
    for name in data_sets(cfg):
        yield _finding_of(name, situation)
    shared = set(cfg.DATASETS.TRAIN) & set(cfg.DATASETS.TEST)
    if shared:
        yield Finding("data", WARN, f"{', '.join(sorted(shared))} is trained on and tested on", "test on other images")


def check_training_images(situation: Situation) -> Iterator[Finding]:
    """Which images the run trains on; needs the check of the data."""
    if not all(situation.images.get(name) for name in data_sets(situation.cfg)):
        return
    situation.training_images = len(training_records(situation.cfg))
    yield Finding("training images", OK, describe_training(situation.cfg))


def _finding_of(name: str, situation: Situation) -> Finding:
    check = f"data {name}"
    try:
        checks = run_checks(situation.cfg, name, train=True)
    except UserError as error:
        return Finding(check, ERROR, str(error))
    situation.images[name] = checks.images
    if not checks.images:
        return Finding(check, ERROR, "holds no image", "check its SPLIT and ROOT in DATASETS.REGISTER")
    if not checks.annotations:
        return Finding(check, ERROR, f"{checks.images} images without any box", "check the annotations")
    message = f"{checks.images} images, {checks.annotations} boxes"
    if not checks.entries:
        return Finding(check, OK, message)
    found = f"{message}; {checks.summary()}"
    first = next(iter(checks.worth_a_warning()), None)
    if first is None:
        return Finding(check, OK, found)
    return Finding(check, WARN, f"{found}; e.g. {checks.entries[first][0]}", "correct them, or accept what is done")


def check_probe_images(situation: Situation) -> Iterator[Finding]:
    """The classification images of the probes."""
    cfg = situation.cfg
    if not cfg.PROBE.ENABLED or not cfg.CLASSIFICATION.ROOT:
        yield Finding("probes", OK, "no classification probes (PROBE.ENABLED, CLASSIFICATION.ROOT)")
        return
    settings = cfg.CLASSIFICATION
    counts = [
        f"{len(list_images(settings, split).files)} in {split}" for split in (settings.TRAIN_SPLIT, settings.EVAL_SPLIT)
    ]
    yield Finding("probes", OK, f"{settings.ROOT}: {', '.join(counts)}")


def check_shared_memory(situation: Situation) -> Iterator[Finding]:
    """Whether /dev/shm holds what the loader's workers hand over: two batches each, at their largest."""
    cfg, free = situation.cfg, shared_memory_free()
    workers = cfg.DATALOADER.NUM_WORKERS
    if not workers or free is None or "ranges" in situation.refused:
        return
    pixels = 3 * max(cfg.INPUT.MIN_SIZE_TRAIN) * cfg.INPUT.MAX_SIZE_TRAIN
    needed = 2 * workers * cfg.SOLVER.IMS_PER_BATCH // situation.machines * pixels
    message = f"{free / 1e9:.1f} GB free in /dev/shm, up to {needed / 1e9:.1f} GB needed by {workers} workers a process"
    if free > needed:
        yield Finding("shared memory", OK, message)
    else:
        remedy = f"make it larger (docker run --shm-size {-(-2 * needed // 10**9)}g), or lower DATALOADER.NUM_WORKERS"
        yield Finding("shared memory", WARN, message, remedy)


def check_disk(situation: Situation) -> Iterator[Finding]:
    """Whether OUTPUT_DIR can be written to and holds the checkpoints."""
    folder = Path(situation.cfg.OUTPUT_DIR).absolute()
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        yield Finding("disk", ERROR, f"{folder} cannot be written to", "choose another OUTPUT_DIR")
        return
    weights = situation.weights
    backbone = sum(tensor.numel() * 4 for tensor in weights.contents.tensors.values()) if weights else 0
    # Weights and momentum; the periodic ones kept, the final, the best, and the one being written.
    needed = 2 * (max(backbone, 45 << 20) + _DETECTOR_BYTES) * (situation.cfg.SOLVER.KEEP_CHECKPOINTS + 3)
    free = shutil.disk_usage(folder).free
    message = f"{free / 1e9:.1f} GB free, about {needed / 1e9:.1f} GB needed for checkpoints in {folder}"
    if free > 2 * needed:
        yield Finding("disk", OK, message)
    else:
        yield Finding("disk", ERROR if free < needed else WARN, message, "free space, or choose another OUTPUT_DIR")
