"""The run folder: who owns it, its config, its final figures."""

from __future__ import annotations

import logging
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode
from detectron2.engine import TrainerBase
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import get_event_storage
from detectron2.utils.logger import setup_logger

from clop_det import detectron2_provider
from clop_det.config.files import flatten, load_yaml
from clop_det.engine.device import set_up_device
from clop_det.engine.metrics import METRICS_NAME
from clop_det.engine.precision import use_official_settings
from clop_det.engine.seeding import derive_seed
from clop_det.errors import UserError
from clop_det.figures import CATALOGUE
from clop_det.files import write_json, write_text
from clop_det.keys import declared
from clop_det.locks import exclusive_lock
from clop_det.provenance import collect_provenance

CONFIG_NAME = "config.yaml"
RESULTS_NAME = "results.json"
LOCK_NAME = ".run.lock"
LOGGERS = ("clop_det", "fvcore")
_PATIENCE = 5.0  # seconds for what a killed run had started to leave


@contextmanager
def own_run_folder(cfg: CfgNode, resume: bool, first: bool = True) -> Iterator[None]:
    """Claim OUTPUT_DIR, and keep other runs out of it within the block.

    Args:
        first: whether this is the first process of the run; the others leave the folder to it.

    Raises:
        UserError: see `claim_run_folder`; or another process runs there.
    """
    if not first:
        yield
        return
    folder = Path(cfg.OUTPUT_DIR)
    busy = f"a run is under way in {folder}. Wait for it, or choose another OUTPUT_DIR."
    with exclusive_lock(folder / LOCK_NAME, "Choose another OUTPUT_DIR.", busy, _PATIENCE):
        claim_run_folder(cfg, resume)
        yield


def claim_run_folder(cfg: CfgNode, resume: bool) -> Path:
    """Make OUTPUT_DIR this run's own: write its config.yaml, or check that the one there is the same.

    Moving a run folder is allowed (OUTPUT_DIR is not compared). A run that ended before its first step has left nothing
    but its config: that is written anew. So is a damaged one where a run goes on, with a warning.

    Raises:
        UserError: another run has begun there (the message names the keys that differ), or this very run has left
            checkpoints and `resume` is false, or the folder cannot be written to.
    """
    if not cfg.OUTPUT_DIR:
        raise UserError("OUTPUT_DIR is empty. Name the folder of the run.")
    try:
        str(cfg.OUTPUT_DIR).encode()
    except UnicodeEncodeError as error:  # neither log nor config could name it
        raise UserError(
            f"OUTPUT_DIR {cfg.OUTPUT_DIR!r} holds bytes that are not UTF-8. Choose another name."
        ) from error
    folder = Path(cfg.OUTPUT_DIR)
    config_path = folder / CONFIG_NAME
    if config_path.exists() and has_begun(folder):
        differing = _differences(config_path, cfg, resume)
        if differing:
            raise UserError(
                f"{folder} holds another run, whose config differs in {', '.join(differing[:8])}"
                f"{' and more' if len(differing) > 8 else ''}. Choose another OUTPUT_DIR."
            )
        if not resume and any(folder.glob("*.pth")):
            raise UserError(f"{folder} already holds this run. Add --resume to go on, or choose another OUTPUT_DIR.")
    elif folder.is_dir() and any(folder.glob("*.pth")):
        raise UserError(f"{folder} holds checkpoints but no {CONFIG_NAME}. Choose another OUTPUT_DIR.")
    write_text(config_path, cfg.dump())
    return folder


# Keys that say where a run and its modules lie, which may move.
_PLACES = ("OUTPUT_DIR", "IMPORTS")


def has_begun(folder: Path) -> bool:
    """Whether a run has left a checkpoint or a line of metrics in `folder`."""
    metrics = folder / METRICS_NAME
    return any(folder.glob("*.pth")) or (metrics.is_file() and metrics.stat().st_size > 0)


def settle_seed(cfg: CfgNode, resume: bool, alone: bool) -> None:
    """Give a config whose SEED is negative (Detectron2's default) a drawn one, in place, and say which.

    The run folder's config.yaml records it; a run that goes on, and its evaluation, take that one.

    Args:
        alone: whether one process draws for the whole run; processes that are started apart would differ.

    Raises:
        UserError: they are started apart.
    """
    if cfg.SEED >= 0:
        return
    if not alone:
        raise UserError(f"SEED is {cfg.SEED}, and each of several processes would draw its own. Set SEED, e.g. SEED 0.")
    noted = Path(cfg.OUTPUT_DIR) / CONFIG_NAME
    before = load_yaml(noted).get("SEED", -1) if resume and noted.is_file() else -1
    frozen = cfg.is_frozen()
    cfg.defrost()
    known = isinstance(before, int) and before >= 0
    cfg.SEED = before if known else secrets.randbelow(2**31)
    if frozen:
        cfg.freeze()
    how = f"as {noted} says" if known else "drawn, because the config gives none; the run's config.yaml records it"
    print(f"SEED {cfg.SEED} ({how})", flush=True)


def start_logging(cfg: CfgNode) -> None:
    """Loggers of Detectron2, fvcore and clop_det to the screen (first rank) and log.txt; torch's settings and seeds.

    Call once in every worker. The device is set up as well.
    """
    rank = comm.get_rank()
    # An earlier run in this process must not write into this run's log, nor every line twice to the screen.
    setup_logger.cache_clear()
    for name in (*LOGGERS, get_event_storage.__module__.split(".utils")[0]):
        logging.getLogger(name).handlers.clear()
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank)
    for name in LOGGERS:
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank, name=name)
    logging.getLogger(__name__).info("%s; run folder %s", detectron2_provider.describe(), cfg.OUTPUT_DIR)
    logging.getLogger(TrainerBase.__module__).addFilter(_is_no_user_error)
    seed_all_rng(derive_seed(cfg.SEED, "global", rank) % 2**31)
    set_up_device(cfg)
    use_official_settings(cfg)  # FLOAT32_PRECISION, where it is set, comes after SOLVER.TF32


def _is_no_user_error(record: logging.LogRecord) -> bool:
    """Detectron2 logs whatever ends the training with its traceback; bad input is one line, printed by the tool."""
    return not (record.exc_info and isinstance(record.exc_info[1], UserError))


def write_results(
    cfg: CfgNode | None,
    kind: str,
    metrics: Mapping[str, float],
    folder: Path | None = None,
    seconds: float | None = None,
    **extra: Any,
) -> Path:
    """Write results.json: the final figures of a run and where they come from.

    Args:
        cfg: the run's config; None: it has none (a conversion).
        kind: "pretraining", "detection", "conversion" or "inspection".
        metrics: name -> figure.
        folder: of the file; None: OUTPUT_DIR.
        seconds: how long it took, where nothing else says so.
        extra: further JSON-able entries (`init`, `label_fraction`, `singular_values`, ...).
    """
    if folder is None:
        assert cfg is not None
        folder = Path(cfg.OUTPUT_DIR)
    ended: dict[str, Any] = {"finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    ended |= {} if seconds is None else {"seconds": round(seconds, 2)}
    facts = CATALOGUE.facts(metrics)  # of figures that a report may not know
    content = {
        "kind": kind,
        **({} if cfg is None else {"seed": cfg.SEED}),
        **extra,
        "metrics": {key: float(value) for key, value in metrics.items()},
        **({"figures": facts} if facts else {}),
        "provenance": {**collect_provenance(cfg), **ended},
    }
    write_json(folder / RESULTS_NAME, content)
    return folder / RESULTS_NAME


def _differences(config_path: Path, cfg: CfgNode, resume: bool) -> list[str]:
    """Keys whose values are others than in the file; none, and a warning, if a run goes on and the file is damaged."""
    try:
        there = load_yaml(str(config_path))
    except UserError as error:
        if not resume:
            raise UserError(f"{error} Choose another OUTPUT_DIR, or --resume without this file's values.") from error
        told = "it is written anew from the config given now, which cannot be compared with the one the run began with"
        print(f"warning: {config_path} is damaged; {told} ({error})", file=sys.stderr)
        return []
    old = dict(flatten(there))
    new = dict(flatten(yaml.safe_load(cfg.dump())))
    # A key that the version of that run did not have counts with its default.
    for name, item in declared().items():
        default = item.key.default
        old.setdefault(name, list(default) if isinstance(default, tuple) else default)
    missing = object()
    keys = [*new, *(key for key in old if key not in new and key not in declared())]
    return sorted(key for key in keys if key not in _PLACES and old.get(key, missing) != new.get(key, missing))
