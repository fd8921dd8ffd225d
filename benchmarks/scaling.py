"""The tables of docs/scaling.md: what a step of pretraining consists of on 1, 8 and 64 GPUs, on paper.

    python benchmarks/scaling.py

Sizes of networks are counted on this package's own modules. What a GPU or a link does in a second is assumed, what a
core does was measured; docs/scaling.md says where each number comes from. Nothing here was measured on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from clop_det.methods.encoder import Encoder, build_encoder

FLOAT, INTEGER, VIEWS = 4, 8, 2  # bytes, bytes, views of an image
BUCKET = 25 * 2**20  # bytes of gradients that data parallelism reduces at once


@dataclass(frozen=True)
class Machine:
    """Nodes of GPUs; seconds, bytes and operations.

    Attributes:
        gpus: of a node.
        adapters: of a node's network.
        effective: operations a second of a network's step on one GPU.
        launches: seconds that the host needs to launch a step's kernels.
        fp32: operations a second of fp32 matrix products.
        inside: bytes a second that a GPU sends within a node.
        adapter: bytes a second of one adapter.
        latency: seconds of a collective of a few bytes, within a node and between nodes.
        cores: of the host, for each GPU.
        store: bytes a second that one thread reads from the store.
        decoded: images a second that one core decodes and cuts two crops from.
        disk: bytes a second that a node's disks read.
        file: bytes of an image file.
    """

    gpus: int = 8
    adapters: int = 8
    effective: float = 150e12
    launches: float = 5e-3
    fp32: float = 40e12
    inside: float = 370e9
    adapter: float = 40e9
    latency: tuple[float, float] = (20e-6, 40e-6)
    cores: int = 14
    store: float = 1.8e9
    decoded: float = 460
    disk: float = 6e9
    file: float = 110e3

    def sends(self, world: int) -> float:
        """Bytes a second that a GPU of `world` sends and receives in a collective."""
        return self.inside if world <= self.gpus else min(self.inside, self.adapters * self.adapter)

    def waits(self, world: int) -> float:
        """Seconds of a collective of a few bytes."""
        return 0.0 if world == 1 else self.latency[world > self.gpus]


@dataclass(frozen=True)
class Case:
    """A recipe, and n images for each GPU.

    Attributes:
        name: for a person.
        arch, hidden, stem: ENCODER.ARCH, PROJECTOR.HIDDEN_DIM, ENCODER.STEM.
        size: of the views, in pixels.
        images: n, of a GPU in a step.
        source: where the pixels come from: "card" (the store lies in the GPU's memory), "store" or "stream".
        dim: d, of the embeddings.
    """

    name: str
    arch: str
    hidden: int
    stem: str
    size: int
    images: int
    source: str
    dim: int = 128

    @cached_property
    def _encoder(self) -> Encoder:
        with torch.device("meta"):
            return build_encoder(self.arch, {"stem": self.stem}, self.hidden, self.dim)

    @cached_property
    def parameters(self) -> int:
        """P, of backbone and projector."""
        return sum(parameter.numel() for parameter in self._encoder.parameters())

    @cached_property
    def norms(self) -> int:
        """Layers of BatchNorm."""
        return sum(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in self._encoder.modules())

    @cached_property
    def operations(self) -> int:
        """Of forward and backward of the views of one image."""
        views = torch.empty(VIEWS, 3, self.size, self.size, device="meta")
        with FlopCounterMode(display=False) as counter:
            self._encoder.train()(views)[1].sum().backward()
        return int(counter.get_total_flops())


CASES = [
    Case("(a) ResNet-18, 32 px, on the card", "resnet18", 512, "imagenet", 32, 1024, "card"),
    Case("(a) the same with the CIFAR stem", "resnet18", 512, "cifar", 32, 512, "card"),
    Case("(b) ResNet-50, 224 px, stored", "resnet50", 2048, "imagenet", 224, 256, "store"),
    Case("(c) ResNet-50, 224 px, streamed", "resnet50", 2048, "imagenet", 224, 256, "stream"),
]
PLACES = [
    ("1", 1, Machine()),
    ("8", 8, Machine()),
    ("64, 8 adapters a node", 64, Machine()),
    ("64, 1 adapter a node", 64, Machine(adapters=1)),
]


def gathered_bytes(images: int, dim: int, world: int) -> int:
    """What a GPU receives when embeddings, log-partitions (fp32) and labels (int64) are gathered."""
    return (world - 1) * images * (VIEWS * FLOAT * (dim + 1) + INTEGER)


def reduced_bytes(count: int, world: int) -> float:
    """What a GPU sends when `count` bytes are summed over `world` in a ring."""
    return 2 * (world - 1) / world * count


def similarity_operations(images: int, dim: int, world: int) -> int:
    """Of InfoNCE's products on one GPU: two of (2n x 2N x d) by symmetry on one, three on several."""
    products = 2 if world == 1 else 3
    return products * 2 * (VIEWS * images) * (VIEWS * images * world) * dim


def terms(case: Case, machine: Machine, world: int) -> dict[str, float]:
    """Seconds of every part of a step on one of `world` GPUs; "reading" goes on beside the others."""
    sends, waits = machine.sends(world), machine.waits(world)
    compute = max(machine.launches, case.images * case.operations / machine.effective)
    weights = FLOAT * case.parameters
    last = reduced_bytes(min(weights, BUCKET), world) / sends
    hidden = 2 / 3 * compute  # the backward pass, during which the buckets travel
    reading = {
        "card": 0.0,
        "store": case.images * 3 * case.size**2 / machine.store,
        "stream": case.images
        * max(1 / (machine.cores * machine.decoded), min(world, machine.gpus) * machine.file / machine.disk),
    }
    return {
        "network": compute,
        "similarities": similarity_operations(case.images, case.dim, world) / machine.fp32,
        "gathering": gathered_bytes(case.images, case.dim, world) / sends + 3 * waits,
        "gradients, not hidden": max(last, reduced_bytes(weights, world) / sends - hidden) + waits,
        "BatchNorm over GPUs": 2 * case.norms * waits,
        "reading, beside it": reading[case.source],
    }


def step_seconds(parts: dict[str, float]) -> float:
    """A step: whatever takes longer, reading the next batch or the rest."""
    *rest, reading = parts.values()
    return max(sum(rest), reading)


def table(case: Case) -> str:
    """Markdown: milliseconds of each part, sources a second, and the share of linear scaling."""
    columns = [(terms(case, machine, world), world) for _, world, machine in PLACES]
    alone = step_seconds(columns[0][0])
    lines = [
        f"{case.name}: {case.images} images a GPU, {case.parameters / 1e6:.1f} million parameters, {case.norms} layers"
        f" of BatchNorm, {case.operations / 1e9:.1f} GFLOP an image.",
        "",
        f"| milliseconds on GPUs | {' | '.join(name for name, _, _ in PLACES)} |",
        f"|---|{'---:|' * len(PLACES)}",
    ]
    for name in columns[0][0]:
        lines.append(f"| {name} | {' | '.join(f'{1e3 * parts[name]:.2f}' for parts, _ in columns)} |")
    steps = [step_seconds(parts) for parts, _ in columns]
    rates = [world * case.images / step for step, (_, world) in zip(steps, columns, strict=True)]
    lines.append(f"| **step** | {' | '.join(f'{1e3 * step:.2f}' for step in steps)} |")
    lines.append(f"| thousand images a second | {' | '.join(f'{rate / 1e3:.1f}' for rate in rates)} |")
    lines.append(f"| share of linear scaling | {' | '.join(f'{alone / step:.2f}' for step in steps)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    print("\n\n".join(map(table, CASES)))


if __name__ == "__main__":
    main()
