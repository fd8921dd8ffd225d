"""What a detection config may not say; the trainer and the doctor refuse it by one list, before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlparse

import torch
from detectron2.config import CfgNode
from detectron2.data import detection_utils as utils
from detectron2.utils.file_io import PathManager

from clop_det.config.reading import run_defaults
from clop_det.conversion.conventions import get_key
from clop_det.detection.best_figure import check_best
from clop_det.detection.coco_backends import coco_backend
from clop_det.detection.model import MODEL_CHECKS
from clop_det.detection.optimizer import check_optimizer
from clop_det.engine.device import check_device
from clop_det.engine.schedule import build_schedule
from clop_det.engine.wandb_writer import check_wandb
from clop_det.errors import UserError
from clop_det.keys import DETECTION, check_rules
from clop_det.probes.running import build_tasks

Check = Callable[[CfgNode], object]

# Keys that stand in the config and change nothing here -> what detection does whatever they say.
_IGNORED = {
    "SOLVER.CHANNELS_LAST": "detection chooses the memory layout itself",
    "SOLVER.COMPILE": "detection compiles nothing",
    "SOLVER.MAX_SKIPPED": "detection stops at the first loss that is not finite",
    "SOLVER.ACCUMULATE": "detection takes the gradient of each batch as a whole",
    "SOLVER.LR_SCALING": "detection scales the learning rate, with the schedule, by SOLVER.REFERENCE_WORLD_SIZE",
    "DATALOADER.SAMPLER_TRAIN": "detection shows every image equally often, in an order drawn from SEED",
    "TEST.AUG.ENABLED": "detection tests each image once, as it is",
    "MODEL.KEYPOINT_ON": "detection reads data sets without keypoints",
    "MODEL.LOAD_PROPOSALS": "detection takes its proposals from the model, never from a file",
}


def check_config(cfg: CfgNode, processes: int = 1) -> None:
    """Refuse settings that a run cannot honour; call it on the config as fitted to its processes.

    Args:
        cfg: the config of a run.
        processes: processes that share a training batch; 1 for an evaluation alone.

    Raises:
        UserError: names the key, its value and the remedy.
    """
    for _, check in config_checks(processes):
        check(cfg)


def config_checks(processes: int) -> tuple[tuple[str, Check], ...]:
    """(Name for a report, check that raises UserError), in order; they read nothing but the config and the machine."""
    return (
        ("ranges", _check_rules),
        ("ignored settings", _check_ignored),
        ("weights", _check_weights),
        ("device", lambda cfg: check_device(cfg.MODEL.DEVICE, processes > 1)),
        *MODEL_CHECKS,
        ("optimizer", check_optimizer),
        ("batch", partial(_check_batch, processes=processes)),
        ("schedule", _check_schedule),
        ("augmentation", _check_augmentation),
        ("probe settings", build_tasks),
        ("best checkpoint", check_best),
        ("COCO backend", _check_backend),
        ("services", check_wandb),
        ("expected results", _check_expectations),
    )


def fetch_weights(cfg: CfgNode) -> None:
    """Download MODEL.WEIGHTS, where it is an address, into Detectron2's cache, from which each process then loads it.

    Raises:
        UserError: it cannot be downloaded.
    """
    weights = str(cfg.MODEL.WEIGHTS)
    if "://" not in weights:
        return
    address = urlparse(weights)._replace(query="").geturl()  # as Detectron2's checkpointer asks for it
    try:
        path = Path(PathManager.get_local_path(address))
    except (OSError, HTTPException, ValueError, AssertionError) as error:
        raise UserError(
            f"MODEL.WEIGHTS {weights} cannot be downloaded ({error}). Check the address and the network, or download it"
            " elsewhere and give the file's path."
        ) from error
    if not path.is_file():
        raise UserError(f"MODEL.WEIGHTS {weights} is an address that Detectron2 does not know. Give a file's path.")


def _check_rules(cfg: CfgNode) -> None:
    check_rules(cfg, DETECTION)


def _check_ignored(cfg: CfgNode) -> None:
    defaults = run_defaults()
    for key, instead in _IGNORED.items():
        value, default = get_key(cfg, key), get_key(defaults, key)
        if value != default:
            raise UserError(f"{key} is {value!r}, but {instead}. Leave it at {default!r}.")


def _check_weights(cfg: CfgNode) -> None:
    weights = str(cfg.MODEL.WEIGHTS)
    if weights and "://" not in weights and not Path(weights).is_file():
        file, _, option = weights.partition("?")
        if option and Path(file).is_file():
            raise UserError(
                f"MODEL.WEIGHTS {weights}: {option} makes Detectron2 guess which tensor is which. Leave it out, after"
                f" clop-det convert {file} OUTPUT.pth, which maps every tensor and proves it."
            )
        if Path(weights).is_dir():
            raise UserError(f"MODEL.WEIGHTS {weights} is a folder. Convert it: clop-det convert {weights} OUTPUT.pth")
        raise UserError(f"MODEL.WEIGHTS {weights} does not exist.")


def _check_batch(cfg: CfgNode, processes: int) -> None:
    batch = cfg.SOLVER.IMS_PER_BATCH
    if batch % processes:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH is {batch}; {processes} processes cannot share it evenly. Set SOLVER.IMS_PER_BATCH"
            f" {-(-batch // processes) * processes}."
        )


def _check_schedule(cfg: CfgNode) -> None:
    # Steps past the end, which scaling may give, Detectron2 leaves out with a warning.
    build_schedule(cfg, torch.optim.SGD([torch.zeros(1)], lr=cfg.SOLVER.BASE_LR))


def _check_augmentation(cfg: CfgNode) -> None:
    settings = cfg.INPUT
    sizes = tuple(settings.MIN_SIZE_TRAIN)
    if settings.MIN_SIZE_TRAIN_SAMPLING == "range" and list(sizes) != sorted(sizes):
        raise UserError(f"INPUT.MIN_SIZE_TRAIN is {sizes}, sampled as a range; the smaller size must come first.")
    try:
        utils.build_augmentation(cfg, True)
    except (AssertionError, ValueError) as error:
        raise UserError(
            f"Detectron2 cannot build these augmentations: {error} (INPUT.MIN_SIZE_TRAIN {sizes},"
            f" MIN_SIZE_TRAIN_SAMPLING {settings.MIN_SIZE_TRAIN_SAMPLING}, RANDOM_FLIP {settings.RANDOM_FLIP}). Sample"
            ' by "choice" or, of two sizes, "range"; flip "horizontal", "vertical" or "none".'
        ) from error


def _check_backend(cfg: CfgNode) -> None:
    coco_backend(cfg.TEST.COCO_BACKEND)


def _check_expectations(cfg: CfgNode) -> None:
    kinds = (str, str, int | float, int | float)
    for entry in cfg.TEST.EXPECTED_RESULTS:
        whole = isinstance(entry, list | tuple) and len(entry) == 4
        if not whole or not all(isinstance(item, kind) for item, kind in zip(entry, kinds, strict=True)):
            raise UserError(
                f'TEST.EXPECTED_RESULTS holds {entry!r}; entries are [task, metric, value, tolerance], as ["bbox",'
                ' "AP", 38.5, 0.2].'
            )
