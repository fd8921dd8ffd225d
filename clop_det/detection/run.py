"""A fine-tuning from its checks to results.json, and an evaluation alone."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.evaluation import verify_results
from detectron2.utils import comm

from clop_det.annotations.datasets import class_names, set_num_classes, use_datasets
from clop_det.checkpoints.newest import newest_verified
from clop_det.checkpoints.reading import read_provenance
from clop_det.conversion.compatibility import apply_weights_provenance, conventions_of
from clop_det.conversion.loading import DetectorCheckpointer
from clop_det.detection.best_figure import settle_best
from clop_det.detection.class_names import PROVENANCE_KEY, classes_of_weights, compare_class_names
from clop_det.detection.coco_backends import coco_backend
from clop_det.detection.config_check import check_config, fetch_weights
from clop_det.detection.evaluation import split_figure
from clop_det.detection.run_data import check_data, log_checks
from clop_det.detection.scaling import fit_to_processes
from clop_det.detection.trainer import DetectionTrainer
from clop_det.engine.launching import Launch, expected_world_size
from clop_det.engine.metrics import dispensable, read_metrics
from clop_det.engine.run_folder import start_logging, write_results
from clop_det.errors import UserError
from clop_det.figures import BOX, FAMILIES, PROBE
from clop_det.files import write_json
from clop_det.provenance import collect_provenance

_EVALUATED = re.compile(rf"(^|/)({'|'.join((BOX, *FAMILIES, PROBE))})/")
WEIGHT_FACTS = ("loss", "source_format", "label_fraction", "arch", "source_sha256")


def prepare(cfg: CfgNode, how: Launch) -> list[str]:
    """Complete `cfg` in place, and refuse here what can be refused, before a process starts or a file is touched.

    Returns:
        lines that say what was changed.
    """
    cfg.defrost()
    notes = choose_own_weights(cfg, how.resume) if how.eval_only else []
    processes = expected_world_size(how, cfg.MODEL.DEVICE)
    notes += fit_to_processes(cfg, processes)
    check_config(cfg, 1 if how.eval_only else processes)
    fetch_weights(cfg)
    use_datasets(cfg)
    set_num_classes(cfg)
    notes += apply_weights_provenance(cfg)
    notes += settle_best(cfg)
    notes += compare_class_names(cfg, train=not how.eval_only)
    notes += check_data(cfg, train=not how.eval_only)
    cfg.freeze()
    return notes


def choose_own_weights(cfg: CfgNode, last: bool) -> list[str]:
    """Set MODEL.WEIGHTS to those of the run in OUTPUT_DIR, for an evaluation that asks for them or names none.

    Args:
        last: whether the last checkpoint is asked for, whatever MODEL.WEIGHTS is (a run's config names what it began
            with); otherwise the final or the best one is taken, where MODEL.WEIGHTS is empty.

    Returns:
        lines that say what was chosen.

    Raises:
        UserError: there are none.
    """
    folder = Path(cfg.OUTPUT_DIR)
    if last:
        found = newest_verified(folder, ["trainer"])
        if found is None:
            raise UserError(
                f"--eval-only --resume evaluates the last checkpoint of OUTPUT_DIR, but {folder} holds none. Name the"
                " folder of a run, or leave out --resume and give MODEL.WEIGHTS."
            )
    elif cfg.MODEL.WEIGHTS:
        return []
    else:
        kept = [folder / name for name in ("model_final.pth", "model_best.pth") if (folder / name).is_file()]
        if not kept:
            raise UserError(
                f"--eval-only needs MODEL.WEIGHTS, or an OUTPUT_DIR with a finished run ({folder} is none)."
            )
        found = kept[0]
    cfg.MODEL.WEIGHTS = str(found)
    return [f"evaluating {found}, the weights of the run in OUTPUT_DIR"]


def worker(cfg: CfgNode, how: Launch) -> None:
    """One process of the run."""
    start_logging(cfg)
    for note in how.notes:
        logging.getLogger(__name__).info(note)
    use_datasets(cfg, reread=False)  # a spawned process starts without them
    log_checks(cfg, train=not how.eval_only)
    facts = weight_facts(cfg)
    if how.eval_only:
        evaluate_only(cfg)
        return
    classes = {PROVENANCE_KEY: list(class_names(cfg.DATASETS.TRAIN[0]))}
    trainer = DetectionTrainer(cfg, {**collect_provenance(cfg), **conventions_of(cfg), **facts, **classes})
    start_iter = trainer.resume_or_load(how.resume)
    if start_iter < cfg.SOLVER.MAX_ITER:
        trainer.train(start_iter, cfg.SOLVER.MAX_ITER)
    trainer.checkpointer.ensure_final(cfg.SOLVER.MAX_ITER - 1)
    metrics = trainer.evaluation.latest or _last_figures(cfg)
    draws = cfg.TEST.PICTURES > 0 and (bool(trainer.evaluations) or not trainer.has_drawn())
    # A run that was over when it was resumed has not evaluated; all processes do, or none.
    if comm.all_gather(not trainer.evaluations and (draws or not metrics or not trainer.has_kept()))[0]:
        figures = trainer.evaluate(f"after {cfg.SOLVER.MAX_ITER} iterations")
        metrics = metrics or figures
    if comm.is_main_process():
        if trainer.evaluations:
            trainer.keep()
        measured = measured_by(cfg)
        path = write_results(cfg, "detection", metrics, **facts, **measured, iterations=cfg.SOLVER.MAX_ITER)
        logging.getLogger(__name__).info("weights in %s/model_final.pth, figures in %s", cfg.OUTPUT_DIR, path)
        if draws:
            with dispensable("the pictures of detections and of precision over recall"):
                trainer.draw()
        verify(cfg, metrics)


def evaluate_only(cfg: CfgNode) -> None:
    """Evaluate MODEL.WEIGHTS on DATASETS.TEST; the figures go to OUTPUT_DIR/evaluation.json.

    Raises:
        UserError: the file does not hold the whole detector (a backbone alone, or other classes).
    """
    trainer = DetectionTrainer(cfg, {}, train=False)
    if trained := classes_of_weights(cfg.MODEL.WEIGHTS):
        for test_set in trainer.test_sets:
            test_set.follow(trained, cfg.MODEL.WEIGHTS)
    iteration = DetectorCheckpointer(trainer.core, whole=True).load(cfg.MODEL.WEIGHTS).get("iteration")
    done = f" after {iteration + 1} iterations" if isinstance(iteration, int) else ""
    figures = trainer.evaluate(f"with {cfg.MODEL.WEIGHTS}{done}")
    if comm.is_main_process():
        path = Path(cfg.OUTPUT_DIR) / "evaluation.json"
        content = {"weights": cfg.MODEL.WEIGHTS, "metrics": figures, **measured_by(cfg)}
        write_json(path, {**content, "provenance": collect_provenance(cfg)})
        logging.getLogger(__name__).info("figures in %s", path)
        verify(cfg, figures)


def weight_facts(cfg: CfgNode) -> dict[str, Any]:
    """What the run starts from: init (the pretraining loss, the source's format, or "random") and label_fraction."""
    if not cfg.MODEL.WEIGHTS:
        return {"init": "random", "label_fraction": None}
    found = read_provenance(cfg.MODEL.WEIGHTS) if "://" not in cfg.MODEL.WEIGHTS else {}
    init = found.get("init") or found.get("loss") or found.get("source_format") or Path(cfg.MODEL.WEIGHTS).stem
    weights = {key: found[key] for key in WEIGHT_FACTS if key in found}
    return {"init": init, "label_fraction": found.get("label_fraction"), "weights": weights}


def measured_by(cfg: CfgNode) -> dict[str, Any]:
    """What computed COCO's AP: {"coco_backend": {"name", "version"}, "coco_max_detections"}."""
    backend = coco_backend(cfg.TEST.COCO_BACKEND)
    return {
        "coco_backend": {"name": backend.name, "version": backend.version},
        "coco_max_detections": cfg.TEST.COCO_MAX_DETECTIONS,
    }


def verify(cfg: CfgNode, figures: dict[str, float]) -> None:
    """Detectron2's check of the figures ("bbox/AP") against TEST.EXPECTED_RESULTS; leaves with code 1 if it fails."""
    results: dict[str, dict[str, float]] = {str(entry[0]): {} for entry in cfg.TEST.EXPECTED_RESULTS}
    for key, value in figures.items():
        data_set, family, name = split_figure(key)
        results.setdefault(f"{data_set}/{family}".lstrip("/"), {})[name] = value
    verify_results(cfg, results)


def _last_figures(cfg: CfgNode) -> dict[str, float]:
    """The figures of the last evaluation in metrics.json, for a run that ended before it wrote results.json."""
    for line in reversed(read_metrics(cfg.OUTPUT_DIR)):
        if any(f"{BOX}/" in key for key in line):
            return {key: value for key, value in line.items() if _EVALUATED.search(key)}
    return {}
