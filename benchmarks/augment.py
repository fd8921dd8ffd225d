"""Two-view augmentation side by side: ours, torchvision v1 on Pillow, torchvision v2 per sample, kornia.

    python benchmarks/augment.py --sizes 32 64 --seconds 2

The chain is SimCLR's without blur: random resized crop (0.2..1), flip, colour jitter (0.4, 0.4, 0.4, 0.1; p 0.8), grey
(p 0.2), normalise, from decoded uint8 images of the views' size, every view with parameters of its own.

The unit is views per second of one core: processor time of all threads, not wall time, so that other load on the
machine counts little. The implementations take turns, round after round; a figure is the median over the rounds, and a
ratio the median of the ratios within the rounds.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision.transforms as v1
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from clop_det.data.augment import AugmentSettings, ViewAugmentation
from clop_det.data.view_parameters import draw_parameters
from clop_det.files import write_json

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OURS = "ours"
Views = Callable[[], object]


def ours(images: Tensor, size: int) -> Views:
    """The batched module, parameters included."""
    mean, std = ([255 * value for value in values] for values in (MEAN, STD))
    augmentation = ViewAugmentation(AugmentSettings(), size, mean, std)
    generator = torch.Generator().manual_seed(0)
    return lambda: augmentation.apply(images, draw_parameters(augmentation.settings, len(images), generator))


def torchvision_v1(images: Tensor, size: int) -> Views:
    """torchvision's first transforms on Pillow images, one by one."""
    chain = v1.Compose(
        [
            v1.RandomResizedCrop(size, (0.2, 1.0)),
            v1.RandomHorizontalFlip(),
            v1.RandomApply([v1.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
            v1.RandomGrayscale(0.2),
            v1.ToTensor(),
            v1.Normalize(MEAN, STD),
        ]
    )
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    return lambda: torch.stack([chain(picture) for _ in range(2) for picture in pictures])


def torchvision_v2(images: Tensor, size: int) -> Views:
    """torchvision's v2 transforms on tensors, one by one: on a batch they would draw one crop for all."""
    chain = v2.Compose(
        [
            v2.RandomResizedCrop(size, (0.2, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
            v2.RandomGrayscale(0.2),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    return lambda: torch.stack([chain(image) for _ in range(2) for image in images])


def kornia(images: Tensor, size: int) -> Views:
    """kornia's batched augmentation with parameters per sample."""
    import kornia.augmentation as K

    chain = K.AugmentationSequential(
        K.RandomResizedCrop((size, size), scale=(0.2, 1.0)),
        K.RandomHorizontalFlip(),
        K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        K.RandomGrayscale(p=0.2),
        K.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
        data_keys=["input"],
    )
    return lambda: chain(torch.cat([images, images]).float() / 255)


IMPLEMENTATIONS: dict[str, Callable[[Tensor, int], Views]] = {
    OURS: ours,
    "torchvision v1 (Pillow)": torchvision_v1,
    "torchvision v2, per sample": torchvision_v2,
    "kornia": kornia,
}


def views_per_second(run: Views, views: int, seconds: float) -> float:
    """Rate over at least `seconds` of processor time, after one unmeasured call."""
    run()
    start, calls = time.process_time(), 0
    while (elapsed := time.process_time() - start) < seconds or calls == 0:
        run()
        calls += 1
    return views * calls / elapsed


def measure(size: int, batch: int, seconds: float, rounds: int) -> dict[str, list[float]]:
    """Views per core-second of every implementation that is installed, in each round."""
    images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)
    present = {
        name: build(images, size)
        for name, build in IMPLEMENTATIONS.items()
        if name != "kornia" or importlib.util.find_spec("kornia") is not None
    }
    rates: dict[str, list[float]] = {name: [] for name in present}
    for _ in range(rounds):
        for name, run in present.items():
            rates[name].append(views_per_second(run, 2 * batch, seconds / rounds))
    return rates


def table(size: int, rates: dict[str, list[float]]) -> str:
    """A Markdown table: rate, and how many times as fast ours is."""
    lines = [f"| {size} px | views/s of a core | ours is faster by |", "|---|---:|---:|"]
    for name, values in rates.items():
        ratio = statistics.median(mine / other for mine, other in zip(rates[OURS], values, strict=True))
        lines.append(f"| {name} | {statistics.median(values):,.0f} | {'' if name == OURS else f'{ratio:.1f} x'} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the tables, and write the figures if a file is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[32, 64, 96], help="sides of images and views in pixels"
    )
    parser.add_argument("--batch", type=int, default=256, help="images a batch; twice as many views")
    parser.add_argument("--seconds", type=float, default=2.0, help="processor time for each implementation and size")
    parser.add_argument("--rounds", type=int, default=4, help="turns that the time is cut into")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    packages = [name for name in ("torch", "torchvision", "kornia") if importlib.util.find_spec(name) is not None]
    setting = {
        "threads": arguments.threads,
        "batch": arguments.batch,
        "machine": platform.machine(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }
    print(setting)
    results = {}
    for size in arguments.sizes:
        results[size] = measure(size, arguments.batch, arguments.seconds, arguments.rounds)
        print(f"\n{table(size, results[size])}", flush=True)
    if arguments.output is not None:
        write_json(arguments.output, {**setting, "views_per_core_second": results})


if __name__ == "__main__":
    main()
