"""Peak memory of reading a large store: what the data side of a run adds to the framework's own.

Makes a store of made-up images (100,000 of 64 px: 1.2 GB of pixels, by default) in a temporary folder and measures,
each in a process of its own, the peak resident memory (VmHWM) above that of the imports:

    build       decoding (here: generating) the images into the store
    open        opening it, with its checksum
    epoch       one epoch of batches, every image read once, and half of the next
    probe       every image once, in order, as the probes read them
    plain map   the epoch over an ordinary memory map, which keeps every page it has touched: the baseline
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from clop_det.data.batches import BatchOrder
from clop_det.data.image_list import ImageList
from clop_det.data.image_sources import ImageSource
from clop_det.data.images import Subset
from clop_det.data.store import ImageStore, open_store

STEPS = ("build", "open", "epoch", "probe", "plain map")


class NoiseSource(ImageSource):
    """Image i is noise drawn from i."""

    def __init__(self, size: int) -> None:
        self._size = size

    def stamp(self, index: int) -> str:
        return ""

    def content(self, index: int) -> bytes:
        return np.random.default_rng(index).bytes(3 * self._size**2)

    def decode(self, index: int, content: bytes) -> Image.Image:
        return Image.frombytes("RGB", (self._size, self._size), content)


def peak_mib() -> float:
    """VmHWM of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def open_noise(count: int, size: int, cache: str) -> ImageStore:
    """The store, made on first use."""
    files = tuple(f"{index}.png" for index in range(count))
    images = ImageList(Path(cache), files, torch.arange(count) % 10, tuple("0123456789"), NoiseSource(size))
    return open_store(images, size, cache)


def step(name: str, count: int, size: int, batch: int, cache: str) -> float:
    """Peak memory in MiB that one step adds to the imports."""
    torch.zeros(1).sum()
    start = peak_mib()
    store = open_noise(count, size, cache)
    order = BatchOrder(count, batch, 0)
    iterations = range(order.batches_per_epoch * 3 // 2)
    total = 0
    if name == "epoch":
        for iteration in iterations:
            total += int(store.images[order(iteration)][:, 0, 0, 0].sum())
    elif name == "probe":
        everything = Subset(store.images, torch.arange(count))
        for first in range(0, count, 256):
            total += int(everything[first : first + 256][:, 0, 0, 0].sum())
    elif name == "plain map":
        plain = torch.from_numpy(np.memmap(store.folder / "images.u8", mode="c", shape=store.images.shape))
        for iteration in iterations:
            total += int(plain[order(iteration)][:, 0, 0, 0].sum())
    return peak_mib() - start


def main() -> None:
    """Print a line a step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=64, help="side in pixels")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--cache", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        print(json.dumps(step(args.step, args.images, args.size, args.batch, args.cache)))
        return
    print(f"{args.images} images of {args.size} px, {args.images * 3 * args.size**2 / 2**20:.0f} MiB of pixels")
    with tempfile.TemporaryDirectory() as cache:
        for name in STEPS:
            own = [sys.executable, __file__, "--step", name, "--cache", cache]
            own += ["--images", str(args.images), "--size", str(args.size), "--batch", str(args.batch)]
            lines = subprocess.run(own, check=True, capture_output=True, text=True).stdout.splitlines()
            print(f"{name:10s} {json.loads(lines[-1]):8.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
