"""VOC's average precision side by side: ours, and Detectron2's evaluator, on one set of detections.

    python benchmarks/voc_metric.py --output docs/results/voc_metric.json

The default is as large as VOC07 test: 4,952 images, 14,976 boxes of 20 classes (a fifth of them difficult), and 30
detections an image. Both sides have read the annotations before the clock starts; each round times both, and the
ratios are those within the rounds. Ours computes both of VOC's rules, Detectron2 one.
"""

from __future__ import annotations

import argparse
import functools
import io
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import clop_det  # noqa: F401  (makes `import detectron2` work)

# isort: split
import numpy as np
import torch
from detectron2.evaluation import PascalVOCDetectionEvaluator
from detectron2.evaluation.pascal_voc_evaluation import parse_rec
from detectron2.structures import Boxes, Instances
from PIL import Image
from turns import CLOCKS, HIGHER, in_turns, ratio, seconds_of, spread, told, write_figures

from clop_det.annotations.datasets import class_names, load_dataset, register_datasets
from clop_det.detection.ground_truth import ground_truth, join_detections, pack_instances
from clop_det.detection.voc_metric import voc_metrics

CLASSES = [f"class{k:02d}" for k in range(20)]
WIDTH, HEIGHT = 500, 375


def write_set(root: Path, images: int, boxes: int, rng: np.random.Generator) -> None:
    """A VOC folder of black pictures."""
    picture = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT)).save(picture, "JPEG")
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / part).mkdir(parents=True)
    owner = np.concatenate([np.arange(images), rng.integers(0, images, boxes - images)])
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    for i in range(images):
        objects = ""
        for _ in range(int((owner == i).sum())):
            x, y = int(rng.integers(1, 380)), int(rng.integers(1, 280))
            w, h = int(rng.integers(15, WIDTH - x)), int(rng.integers(15, HEIGHT - y))
            objects += (
                f"<object><name>{rng.choice(CLASSES)}</name><pose>Unspecified</pose><truncated>0</truncated>"
                f"<difficult>{int(rng.random() < 0.2)}</difficult><bndbox><xmin>{x}</xmin><ymin>{y}</ymin>"
                f"<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
            )
        (root / "Annotations" / f"{i:06d}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
        (root / "JPEGImages" / f"{i:06d}.jpg").write_bytes(picture.getvalue())
    (root / "ImageSets" / "Main" / "test.txt").write_text("\n".join(f"{i:06d}" for i in range(images)))


def detections(records: Sequence[dict[str, Any]], count: int, rng: np.random.Generator) -> list[Instances]:
    """Disturbed true boxes and strays, by falling score, as a detector gives them."""
    outputs = []
    for record in records:
        true = record["annotations"]
        near = rng.random(count) < 0.5
        pick = rng.integers(0, len(true), count)
        boxes = rng.random((count, 4)) * [380, 280, 380, 280]
        boxes = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:]) + 9], 1)
        boxes[near] = np.array([true[k]["bbox"] for k in pick])[near] + rng.normal(0, 8, (int(near.sum()), 4))
        labels = np.where(near, np.array([true[k]["category_id"] for k in pick]), rng.integers(0, 20, count))
        instances = Instances((HEIGHT, WIDTH))
        instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32))
        instances.scores = torch.tensor(np.sort(rng.random(count))[::-1].copy(), dtype=torch.float32)
        instances.pred_classes = torch.tensor(labels)
        outputs.append(instances)
    return outputs


def measure(arguments: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Seconds of both sides in every round, and how far their figures are apart."""
    rng = np.random.default_rng(0)
    write_set(root, arguments.images, arguments.boxes, rng)
    register_datasets([{"NAME": "voc_sized", "LAYOUT": "voc", "ROOT": str(root), "SPLIT": "test", "CLASSES": CLASSES}])
    records = load_dataset("voc_sized")
    for path in (root / "Annotations").glob("*.xml"):
        parse_rec(str(path))
    outputs = detections(records, arguments.detections, rng)
    evaluator = PascalVOCDetectionEvaluator("voc_sized")
    evaluator.reset()
    evaluator.process(records, [{"instances": output} for output in outputs])
    packed = {i: pack_instances(output) for i, output in enumerate(outputs)}

    def ours() -> dict[str, float]:
        truth = ground_truth(records, class_names("voc_sized"))
        return voc_metrics(truth, join_detections(packed))[0]["voc07"]

    def theirs() -> dict[str, float]:
        figures: dict[str, float] = evaluator.evaluate()["bbox"]
        return figures

    figures: dict[str, dict[str, float]] = {}

    def run(name: str, function: Callable[[], dict[str, float]]) -> float:
        seconds = seconds_of(lambda: figures.update({name: function()}), CLOCKS[arguments.clock])
        print(f"{name}: {seconds:.2f} s", flush=True)
        return seconds

    runs = {name: functools.partial(run, name, function) for name, function in (("ours", ours), ("detectron2", theirs))}
    seconds = in_turns(runs, arguments.rounds)
    gap = max(abs(figures["ours"][key] - value) for key, value in figures["detectron2"].items())
    return {"seconds": seconds, "largest_difference": gap, "AP": figures["ours"]["AP"]}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4952)
    parser.add_argument("--boxes", type=int, default=14976, help="at least as many as images")
    parser.add_argument("--detections", type=int, default=30, help="an image")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=CLOCKS, default="cpu", help="cpu: this program's own processor time")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(arguments, Path(folder))
    seconds = result["seconds"]
    speed = ratio(seconds["detectron2"], seconds["ours"], HIGHER)
    print(f"\n{arguments.images} images, {arguments.boxes} boxes, {arguments.detections} detections an image")
    for name, values in seconds.items():
        print(f"{name:12} {told(spread(values))} s")
    print(f"ratio        {told(speed, 1)}")
    print(f"largest difference of AP, AP50, AP75: {result['largest_difference']:.1e} (AP {result['AP']:.2f})")
    write_figures(arguments.output, arguments, {"VOC's AP: speed over Detectron2": speed}, **result)


if __name__ == "__main__":
    main()
