"""Pretraining side by side: our loop, lightly's SimCLR recipe, and the encoder alone on views that lie ready.

    python benchmarks/pretrain.py --cases resnet18:32 resnet18:64 --batch 64 --rounds 4

All train the same ResNet with the same projector, batch, optimiser and precision on the same images, each in a process
of its own that is set up as its user would have it, and take turns, round after round, so that other load on the
machine meets all of them. The unit is sources (images, of which each gives two views) per second, end to end:

* "ours": what `tools/pretrain.py` runs for one step: batch, views, forward, loss, backward, checks, update.
* "lightly": its SimCLRTransform (without blur, which small images do without in both) in a DataLoader of as many
  workers as cores over JPEG files, its NTXentLoss, the same update; the network as torchvision computes it.
* "lightly, our convolutions": the same with the network as we compute it, whose convolutions over maps of a few pixels
  are matrix products (`clop_det/backbones/small_maps.py`).
* "encoder only": our step with the views of one batch drawn once and for all.
* "ours, fp32": our step in fp32, beside one in bf16; `--contenders` names those that are to be timed.

A ratio is the median of the ratios within the rounds. `--clock cpu` counts processor time instead, that of the
DataLoader's workers included: for a machine that other work shares, with `--threads 1`. On a GPU: `--device cuda
--cases resnet18:32 resnet18:64 resnet50:224 --batch 1024 --compile`.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import logging
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import nn
from turns import CLOCKS, HIGHER, in_turns, ratio, spread, told, write_figures

from clop_det.backbones.small_maps import SmallMapConv2d
from clop_det.config.reading import read_config
from clop_det.engine.allocator import keep_freed_memory
from clop_det.engine.precision import autocast
from clop_det.pretraining.build import build_method
from clop_det.pretraining.data import open_data
from clop_det.pretraining.optimizers import build_optimizer
from clop_det.pretraining.trainer import PretrainTrainer

OURS, PEER, PEER_OUR_NETWORK, FLOOR = "ours", "lightly", "lightly, our convolutions", "encoder only"
OURS_FP32 = "ours, fp32"
CONTENDERS = (OURS, PEER, PEER_OUR_NETWORK, FLOOR, OURS_FP32)
BASE = Path(__file__).resolve().parents[1] / "configs" / "pretrain" / "Base-pretrain.yaml"
Step = Callable[[], object]


def write_photographs(root: Path, count: int, side: int) -> None:
    """Smooth random pictures as JPEG files, in two classes: decoding costs what it costs with photographs."""
    rng = np.random.default_rng(0)
    for split, number in (("train", count), ("val", 8)):
        for index in range(number):
            folder = root / split / f"class{index % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            coarse.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{index:06d}.jpg", quality=90)


def config_of(arch: str, size: int, root: Path, folder: Path, arguments: argparse.Namespace) -> Any:
    """Our SimCLR recipe: InfoNCE on the pictures."""
    pairs = {
        "ENCODER.ARCH": arch,
        "CLASSIFICATION.ROOT": str(root),
        "CLASSIFICATION.IMAGE_SIZE": size,
        "LOSS.NAME": "info_nce",
        "SOLVER.IMS_PER_BATCH": arguments.batch,
        "SOLVER.MAX_ITER": 1_000_000,
        "SOLVER.PRECISION": arguments.precision,
        "SOLVER.COMPILE": arguments.compile,
        "MODEL.DEVICE": arguments.device,
        "OUTPUT_DIR": str(folder),
    }
    return read_config(str(BASE), [str(word) for pair in pairs.items() for word in pair])


def our_step(cfg: Any, views_once: bool) -> Step:
    """`PretrainTrainer.run_step`, iteration after iteration."""
    trainer = PretrainTrainer(cfg, open_data(cfg), {})
    trainer.iter, trainer.max_iter, trainer.start_iter = 20, cfg.SOLVER.MAX_ITER, 0  # no step of these writes a line
    if views_once:
        batch = trainer.step.batches(0)
        trainer.step.batches = lambda iteration: batch
    counter = itertools.count(20)

    def step() -> None:
        trainer.iter = next(counter)
        while trainer.writer.is_due(trainer.iter, trainer.max_iter):
            trainer.iter = next(counter)
        trainer.run_step()

    return step


def use_torchvisions_convolutions(network: nn.Module) -> None:
    """Let the network compute as torchvision's does."""
    for module in network.modules():
        if isinstance(module, SmallMapConv2d):
            module.forward = functools.partial(nn.Conv2d.forward, module)  # type: ignore[method-assign]


def lightly_step(cfg: Any, root: Path, arguments: argparse.Namespace, our_convolutions: bool) -> Step:
    """lightly's recipe around the same encoder and optimiser."""
    from lightly.loss import NTXentLoss
    from lightly.transforms import SimCLRTransform
    from torchvision.datasets import ImageFolder

    device = torch.device(cfg.MODEL.DEVICE)
    transform = SimCLRTransform(input_size=cfg.CLASSIFICATION.IMAGE_SIZE, gaussian_blur=0.0, min_scale=0.2)
    loader = torch.utils.data.DataLoader(
        ImageFolder(str(root / "train"), transform=transform),
        batch_size=cfg.SOLVER.IMS_PER_BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=arguments.workers,
        persistent_workers=arguments.workers > 0,
        pin_memory=device.type == "cuda",
    )
    model = build_method(cfg, 2, device).train()
    if not our_convolutions:
        use_torchvisions_convolutions(model)
    if cfg.SOLVER.COMPILE:
        model.encoder.compile()
    optimizer, criterion = build_optimizer(cfg, model), NTXentLoss(temperature=0.2)
    batches = endless(loader)

    def step() -> None:
        first, second = (view.to(device, non_blocking=True) for view in next(batches)[0])
        optimizer.zero_grad(set_to_none=True)
        with autocast(model.half_type, device):
            views = torch.cat([first, second]).contiguous(memory_format=torch.channels_last)
            embeddings = model.encoder(views)[1]
        criterion(*embeddings.float().chunk(2)).backward()
        optimizer.step()

    return step


def endless(loader: Any) -> Iterator[Any]:
    """Epoch after epoch."""
    while True:
        yield from loader


def processor_seconds() -> float:
    """Of this process and of the workers that it has now."""
    ticks = 0
    for worker in multiprocessing.active_children():
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return CLOCKS["cpu"]() + ticks / os.sysconf("SC_CLK_TCK")


def seconds_per_step(step: Step, arguments: argparse.Namespace, untimed: int) -> float:
    """Mean over as many steps as fit into --seconds, at least two, after some that do not count."""
    synchronise = torch.cuda.synchronize if arguments.device == "cuda" else (lambda: None)
    clock = CLOCKS["wall"] if arguments.clock == "wall" else processor_seconds
    for _ in range(untimed):
        step()
    synchronise()
    start, steps = clock(), 0
    while steps < 2 or clock() - start < arguments.seconds:
        step()
        steps += 1
        synchronise()
    return (clock() - start) / steps


def contend(name: str, case: str, root: Path, arguments: argparse.Namespace, turns: Connection) -> None:
    """The process of one of them: a turn is a number of steps that do not count, its answer sources per second."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(arguments.threads)
    arch, size = case.split(":")
    if name == OURS_FP32:
        arguments.precision = "fp32"
    cfg = config_of(arch, int(size), root, root.parent / "run", arguments)
    if not name.startswith(PEER):
        if arguments.device == "cpu":
            keep_freed_memory()  # as `tools/pretrain.py` does
        step = our_step(cfg, views_once=name == FLOOR)
    else:
        step = lightly_step(cfg, root, arguments, our_convolutions=name == PEER_OUR_NETWORK)
    step()
    turns.send("ready")
    for untimed in iter(turns.recv, None):
        turns.send(arguments.batch / seconds_per_step(step, arguments, untimed))


def measure(case: str, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Sources per second of each in every round."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name, patch.dict(os.environ, CLOP_DET_CACHE=f"{name}/cache"):
        root = Path(name) / "images"
        write_photographs(root, max(arguments.images, 2 * arguments.batch), int(case.split(":")[1]))
        turns: dict[str, Any] = {}
        processes = []
        for each in arguments.contenders:
            turns[each], theirs = context.Pipe()
            processes.append(context.Process(target=contend, args=(each, case, root, arguments, theirs)))
            processes[-1].start()
            theirs.close()
            turns[each].recv()

        def turn(key: str) -> float:
            # What the workers prepared while the others had their turn is no part of their rate.
            turns[key].send(2 * arguments.workers if key.startswith(PEER) else 1)
            return float(turns[key].recv())

        rates = in_turns({key: functools.partial(turn, key) for key in turns}, arguments.rounds)
        for pipe in turns.values():
            pipe.send(None)
        for process in processes:
            process.join()
    return rates


def ratios(case: str, rates: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    """Ours over each of the others."""
    return {f"{case}: ours over {key}": ratio(rates[OURS], rates[key], HIGHER) for key in rates if key != OURS}


def table(case: str, rates: dict[str, list[float]], found: dict[str, dict[str, Any]]) -> str:
    """A Markdown table: rates, and the ratios with their range over the rounds."""
    lines = [f"| {case.replace(':', ', ')} px | sources/s | ours over it (range) |", "|---|---:|---:|"]
    for key, values in rates.items():
        said = "" if key == OURS else told(found[f"{case}: ours over {key}"])
        lines.append(f"| {key} | {spread(values)['median']:,.1f} | {said} |")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=["resnet18:32", "resnet18:64"], help="ARCHITECTURE:PIXELS")
    parser.add_argument("--batch", type=int, default=128, help="images a step")
    parser.add_argument("--images", type=int, default=1024, help="pictures on disk")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each in each round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch in the training process")
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1), help="of lightly's DataLoader")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="auto", choices=["auto", "bf16", "fp32"])
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS[:4]))
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: where other programs run meanwhile")
    parser.add_argument("--compile", action="store_true", help="torch.compile the encoder of each")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    return parser.parse_args()


def main() -> None:
    """Measure, print the tables, and write the figures if a file is given."""
    arguments = parse()
    if OURS not in arguments.contenders:
        raise SystemExit("--contenders must name ours: all ratios are to it")
    print(f"{vars(arguments)} torch {torch.__version__}")
    results, found = {}, {}
    for case in arguments.cases:
        results[case] = measure(case, arguments)
        own = ratios(case, results[case])
        print(f"\n{table(case, results[case], own)}", flush=True)
        found |= own
    gpu = torch.cuda.get_device_name() if arguments.device == "cuda" else "none"
    write_figures(arguments.output, arguments, found, sources_per_second=results, gpu=gpu)


if __name__ == "__main__":
    main()
