"""The critical learning rate of a run's weights at its start: `python -m clop_det.pretraining.curvature ...`.

Two numbers for the first batch: what the theory of free embeddings says (T times the number of embeddings, for a loss
that is a mean), and 2 (1 + momentum) over the largest curvature of the loss in the weights; see docs/collapse.md.
"""

from __future__ import annotations

import argparse

import torch
from detectron2.config import CfgNode

from clop_det.collapse.curvature import largest_curvature, stable_learning_rate
from clop_det.collapse.thresholds import critical_learning_rate
from clop_det.engine.cli import add_traceback_flag, load_config, run_tool
from clop_det.engine.seeding import derive_seed
from clop_det.errors import UserError
from clop_det.pretraining.build import build_model, check_config
from clop_det.pretraining.data import BatchSource, open_data


def main(argv: list[str] | None = None) -> int:
    """Print the two numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", default="", metavar="FILE", help="pretraining config")
    parser.add_argument("--lanczos-steps", type=int, default=15, help="of the method; each costs about two steps")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="overrides")
    add_traceback_flag(parser)
    args = parser.parse_args(argv)
    if args.lanczos_steps < 1:
        raise UserError(f"--lanczos-steps {args.lanczos_steps}: must be at least 1.")
    cfg = load_config(args)
    check_config(cfg)
    curvature = initial_curvature(cfg, args.lanczos_steps)
    momentum = cfg.SOLVER.MOMENTUM
    print(f"curvature {curvature:.4g}: critical learning rate of the weights {stable_learning_rate(curvature):.4g}")
    if momentum:
        print(f"with momentum {momentum:g}: {stable_learning_rate(curvature, momentum):.4g}")
    temperature = cfg.LOSS[cfg.LOSS.NAME.upper()].get("TEMPERATURE")
    if temperature:
        free = critical_learning_rate(temperature, "mean", 2 * cfg.SOLVER.IMS_PER_BATCH)
        print(f"of free embeddings at T = {temperature:g}: {free:.4g}")
    return 0


def initial_curvature(cfg: CfgNode, lanczos_steps: int) -> float:
    """Largest curvature of the loss in the weights, at the initial weights and on the first batch, in training mode."""
    device = torch.device(cfg.MODEL.DEVICE)
    data = open_data(cfg)
    torch.manual_seed(derive_seed(cfg.SEED, "weights"))
    model = build_model(cfg, len(data.train.classes), device).train()
    views, labels = BatchSource(cfg, data, 0, 1, device)(0)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return largest_curvature(
        lambda: sum(model(views, labels).values(), torch.zeros((), device=device)), parameters, lanczos_steps, cfg.SEED
    )


if __name__ == "__main__":
    run_tool(main)
