"""A pretraining from its checks to results.json."""

from __future__ import annotations

import logging
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm

from clop_det.backbones.registry import backbone_options, find_architecture
from clop_det.engine.launching import Launch
from clop_det.engine.metrics import dispensable, read_metrics
from clop_det.engine.run_folder import start_logging, write_results
from clop_det.engine.schedule import build_schedule
from clop_det.engine.wandb_writer import check_wandb
from clop_det.errors import UserError
from clop_det.pretraining.build import build_method, check_config
from clop_det.pretraining.collapse_watch import RANKME, report_critical_rate
from clop_det.pretraining.data import BatchSource, PretrainData, log_data, open_data
from clop_det.pretraining.given import given_facts
from clop_det.pretraining.optimizers import build_optimizer, describe_scale
from clop_det.pretraining.probing import check_probes
from clop_det.pretraining.trainer import PretrainTrainer, final_checkpoint
from clop_det.provenance import collect_provenance


def prepare(cfg: CfgNode, world_size: int = 1) -> PretrainData:
    """Refuse here what can be refused, before a process starts and before the run folder is touched.

    The cache is written to: images that no run has decoded yet are decoded now.
    """
    check_config(cfg, world_size)
    check_probes(cfg)
    check_wandb(cfg)
    data = open_data(cfg)
    method = build_method(cfg, len(data.train.classes), torch.device("cpu"))
    BatchSource(cfg, data, method.views_needed, world_size=world_size)
    of_loss = method.loss is not None and method.loss.needs_labels
    if not len(data.visible) and (of_loss or method.needs_labels):
        raise UserError(
            f"{f'LOSS.NAME {cfg.LOSS.NAME}' if of_loss else f'METHOD.NAME {cfg.METHOD.NAME}'} needs labels, but no"
            f" image of {cfg.CLASSIFICATION.TRAIN_SPLIT} in {cfg.CLASSIFICATION.ROOT} has one. Give labels, or choose"
            f" {'a loss without: info_nce, dcl, vicreg or barlow_twins' if of_loss else 'another method'}."
        )
    if method.loss is not None and method.loss.min_images > cfg.SOLVER.IMS_PER_BATCH:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}; LOSS.NAME {cfg.LOSS.NAME} with these options needs at"
            f" least {method.loss.min_images} images."
        )
    build_schedule(cfg, build_optimizer(cfg, torch.nn.ModuleList(method.trained)))
    return data


def worker(cfg: CfgNode, how: Launch) -> None:
    """One process of the run."""
    start_logging(cfg)
    logging.getLogger(__name__).info(describe_scale(cfg, comm.get_world_size()))
    data = open_data(cfg)
    log_data(data, cfg.CLASSIFICATION.EVAL_SPLIT)
    trainer = PretrainTrainer(cfg, data, checkpoint_provenance(cfg, data))
    start_iter = trainer.resume() if how.resume else 0
    trainer.match_prototypes()
    if trainer.core.loss is not None:
        report_critical_rate(cfg, trainer.core.loss, data.train.images)
    trainer.train(start_iter, cfg.SOLVER.MAX_ITER)
    trainer.checkpointer.ensure_final(cfg.SOLVER.MAX_ITER - 1)
    metrics, extra = final_figures(trainer)
    if comm.is_main_process():
        path = write_results(
            cfg,
            "pretraining",
            metrics,
            init=trainer.facts["loss"] or cfg.METHOD.NAME,
            label_fraction=data.label_share(cfg),
            iterations=cfg.SOLVER.MAX_ITER,
            skipped_steps=trainer.guard.skipped,
            processes=comm.get_world_size(),
            **extra,
        )
        with dispensable("curves.png"):
            from clop_det.pretraining.curves import draw_curves  # matplotlib: no start waits for it

            draw_curves(cfg.OUTPUT_DIR)
        logging.getLogger(__name__).info("weights in %s, figures in %s", final_checkpoint(cfg), path)


def final_figures(trainer: PretrainTrainer) -> tuple[dict[str, float], dict[str, Any]]:
    """The figures of the last probes, and their `singular_values`; without probes those of the last batch looked at.

    All processes call it; the main one gets them.
    """
    if trainer.cfg.PROBE.ENABLED:
        metrics = trainer.probes.figures()
        return metrics, {"singular_values": trainer.probes.spectrum()} if comm.is_main_process() else {}
    lines = [line for line in read_metrics(trainer.cfg.OUTPUT_DIR) if RANKME in line]
    return {key: value for line in lines[-1:] for key, value in line.items() if key.startswith("embedding_")}, {}


def checkpoint_provenance(cfg: CfgNode, data: PretrainData) -> dict[str, Any]:
    """What a checkpoint says of its run; the trainer adds what its method says (`method_facts`)."""
    return {
        **collect_provenance(cfg),
        "arch": find_architecture(cfg.ENCODER.ARCH)[1].name,
        **backbone_options(cfg),
        **given_facts(cfg),
        "label_fraction": data.label_share(cfg),
        "classification_root": cfg.CLASSIFICATION.ROOT,
        "classes": list(data.train.classes),
        "image_size": cfg.CLASSIFICATION.IMAGE_SIZE,
        "pixel_mean": [float(value) for value in cfg.MODEL.PIXEL_MEAN],
        "pixel_std": [float(value) for value in cfg.MODEL.PIXEL_STD],
        "channel_order": "RGB",
    }
