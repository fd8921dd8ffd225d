"""Two random crops of 224 px from each of many JPEGs: what a worker of ours does, beside other loaders and decoders.

    OMP_NUM_THREADS=1 python benchmarks/streaming.py --data ../shared/data --output docs/results/streaming.json

Every contender reads the same 32 files, decodes them and gives (2, 32, 3, 224, 224) bytes on one thread; area 0.2 to 1,
antialiased. Ours draws the crops, reads the headers and fills a batch as in training. They take turns, another order
each round; the unit is crops per second of processor time (`--clock wall`: of wall time). A ratio is ours over theirs,
the median of the ratios within the rounds, with their range. "Decoding and resizing alone" is no loader, but the work
that is left if files, headers, crops' boxes and batches took no time: at full size nobody can be faster.

The pictures: those of two folders of real photographs as they are, and three sets made of the photographs of
`coco_cc_by`, saved at quality 90: reduced to 500 x 375, enlarged to 1600 x 1200 (which has less detail than a camera's
picture of that size), and as a mosaic of 1600 x 1200 (which has more).
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from streaming_cases import FAST, FLOOR, IMAGES, OURS, SIMPLEJPEG, SIZE, Batch, contenders, make_sets, our_plan
from turns import CLOCKS, HIGHER, in_turns, ratio, spread, told, write_figures

from clop_det.data.crops import factor_for
from clop_det.data.decoding import centre_square, decode, resized_box
from clop_det.data.layouts import read_images
from clop_det.data.streaming import open_stream


def measure(
    batches: dict[str, Batch], rounds: int, seconds: float, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Crops per second of each contender in each round."""

    def rate(batch: Batch) -> float:
        start, calls = clock(), 0
        while (elapsed := clock() - start) < seconds or not calls:
            batch()
            calls += 1
        return round(2 * IMAGES * calls / elapsed, 1)

    for batch in batches.values():
        batch()
    return in_turns({name: functools.partial(rate, batch) for name, batch in batches.items()}, rounds)


def differences(root: Path) -> dict[str, Any]:
    """Fast crops beside exact ones in grey levels, over three batches, and the share of images decoded at 1/n."""
    stream, plan = {}, our_plan()
    listed = read_images("folder", root, "train")
    for crops in ("fast", "exact"):
        views = open_stream(listed, SIZE, crops=crops).views(plan, torch.device("cpu"))
        stream[crops] = [views.read(iteration) for iteration in range(3)]
    drawn, decoded, factors = [], [], []
    for iteration, (fast, exact) in enumerate(zip(stream["fast"], stream["exact"], strict=True)):
        drawn.append((fast.pixels[0].int() - exact.pixels[0].int()).abs().flatten())
        for place, index in enumerate(plan.indices(iteration).tolist()):
            image = listed.source.image(index)
            shares = plan.parameters(iteration, torch.full((IMAGES,), image.width / image.height)).boxes[place].tolist()
            factors.append(factor_for([(share, SIZE) for share in shares], image.width, image.height))
            for view in range(2):
                x0, y0, x1, y1 = fast.boxes[0][view, place].tolist()
                share = x0 / image.width, y0 / image.height, (x1 - x0) / image.width, (y1 - y0) / image.height
                whole = torch.from_numpy(resized_box(image, share, SIZE))
                decoded.append((fast.pixels[0][view, place].int() - whole.int()).abs().flatten())
    return {
        "images decoded at 1/n": {str(n): factors.count(n) / len(factors) for n in (1, 2, 4, 8) if n in factors},
        "mean, of the same box": round(torch.cat(decoded).float().mean().item(), 3),
        "99th percentile, of the same box": int(np.percentile(torch.cat(decoded).numpy(), 99)),
        "mean, of the drawn box": round(torch.cat(drawn).float().mean().item(), 3),
    }


def store_gain(root: Path, size: int) -> dict[str, float]:
    """Milliseconds of processor time for an image of a store of `size` px: decoded in full, and at a fraction."""
    contents = [path.read_bytes() for path in sorted(root.rglob("*.jpg"))]

    def at_fraction(content: bytes) -> object:
        with Image.open(io.BytesIO(content)) as image:
            image.draft(None, (size, size))
            return centre_square(image.convert("RGB"), size)

    found = {}
    for name, read in (("full", lambda content: centre_square(decode(content, "x"), size)), ("fraction", at_fraction)):
        start = time.process_time()
        for content in contents * 2:
            read(content)
        found[name] = round((time.process_time() - start) / len(contents) / 2 * 1000, 3)
    return found


BEST = "the best peer"


def table(rates: dict[str, list[float]]) -> tuple[str, dict[str, dict[str, Any]]]:
    """Markdown, and the ratios: ours (fast) over each contender, and the floor over the best peer."""
    ratios = {name: ratio(rates[FAST], values, HIGHER) for name, values in rates.items()}
    best = max((name for name in rates if name not in (*OURS, FLOOR)), key=lambda name: spread(rates[name])["median"])
    lines = ["| | crops/s of a core | ours (fast) is faster by |", "|---|---:|---:|"]
    for name, values in rates.items():
        lines.append(f"| {name} | {spread(values)['median']:,.0f} | {'' if name == FAST else told(ratios[name])} |")
    del ratios[FAST]
    stored = {f"ours over {name}": own for name, own in {**ratios, BEST: ratios[best]}.items()}
    if FLOOR in rates:
        stored[f"{FLOOR} over {BEST}"] = ratio(rates[FLOOR], rates[best], HIGHER)
    return "\n".join([*lines, f"\nbest peer: {best}, {told(ratios[best])}"]), stored


def main() -> None:
    """Measure, print the tables, and write the figures if a file is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds coco_cc_by and bccd_voc")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each contender in a round")
    parser.add_argument("--clock", choices=CLOCKS, default="cpu")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    packages = ("torch", "torchvision", "pillow", "lightly", *(["simplejpeg"] if SIMPLEJPEG else []))
    results: dict[str, Any] = {}
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, root in make_sets(arguments.data, Path(folder)).items():
            rates = measure(contenders(root), arguments.rounds, arguments.seconds, CLOCKS[arguments.clock])
            text, ratios = table(rates)
            found |= {f"{name}: {what}": own for what, own in ratios.items()}
            sizes = [path.stat().st_size for path in root.rglob("*.jpg")]
            results[name] = {
                "kilobytes an image": round(statistics.mean(sizes) / 1000),
                "crops per second": rates,
                "difference in grey levels": differences(root),
                "store of 64 px, ms an image": store_gain(root, 64),
            }
            print(f"\n## {name} ({results[name]['kilobytes an image']} kB an image)\n\n{text}")
            print(
                {key: value for key, value in results[name].items() if key.startswith(("difference", "store"))},
                flush=True,
            )
    versions = {package: importlib.metadata.version(package) for package in packages}
    write_figures(arguments.output, arguments, found, versions=versions, sets=results)


if __name__ == "__main__":
    main()
