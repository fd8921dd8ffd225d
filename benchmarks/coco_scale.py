"""What reading annotations of COCO's and Pascal VOC's size costs, beside Detectron2's own readers.

    python benchmarks/coco_scale.py --folder output/scale --rounds 3 --output docs/results/coco_scale.json

makes, from a seed, a file as large as COCO's train2017 (118,287 images, 860,001 annotations) and 16,551 XML files (VOC
07+12), with an image file each (links to five). Then processes alternate: Detectron2's reader; this package's start of
a run with an empty cache folder (registering, reading, checking every image and annotation, checksum, the checks'
file); the same again with what the first left in the cache folder. Time is from after the imports, memory the peak of
the process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from turns import LOWER, ratio, spread, told, write_figures

SIZES = [(640, 480), (480, 640), (640, 427), (500, 375), (612, 612)]  # width, height
CATEGORIES = [k for k in range(1, 91) if k not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
VOC_CLASSES = [f"class{k}" for k in range(20)]
READERS = ("Detectron2", "first start", "second start")


def make_images(folder: Path, names: list[str], which: list[int], rng: np.random.Generator) -> None:
    """An image file for each name: links to one photograph-like file of each size."""
    folder.mkdir(parents=True)
    for k, (width, height) in enumerate(SIZES):
        noise = rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((width, height)).save(folder / f".source{k}.jpg", quality=85)
    used = [0] * len(SIZES)
    for name, k in zip(names, which, strict=True):
        used[k] += 1
        if used[k] % 30_000 == 0:  # file systems limit the links to a file
            source = folder / f".source{k}.jpg"
            shutil.copyfile(source, folder / f".copy{k}.jpg")
            (folder / f".copy{k}.jpg").replace(source)
        os.link(folder / f".source{k}.jpg", folder / name)


def make_coco(root: Path, images: int, boxes: int, seed: int) -> None:
    """annotations/instances_train.json and train/*.jpg, with polygons, and a crowd in a hundred."""
    rng = np.random.default_rng(seed)
    which = rng.integers(0, len(SIZES), images).tolist()
    names = [f"{i + 1:012d}.jpg" for i in range(images)]
    make_images(root / "train", names, which, rng)
    (root / "annotations").mkdir()
    with open(root / "annotations" / "instances_train.json", "w", encoding="utf-8") as file:
        entries = (
            {"license": 3, "file_name": name, "coco_url": f"http://images.cocodataset.org/train2017/{name}"}
            | {"height": SIZES[k][1], "width": SIZES[k][0], "date_captured": "2013-11-14 11:18:45", "id": i + 1}
            for i, (name, k) in enumerate(zip(names, which, strict=True))
        )
        file.write('{"images": [' + ", ".join(map(json.dumps, entries)) + '], "annotations": [')
        points = np.clip(rng.lognormal(2.85, 0.75, boxes), 3, 400).astype(int).tolist()
        for i, (image, count) in enumerate(zip(rng.integers(0, images, boxes).tolist(), points, strict=True)):
            entry = _annotation(rng, SIZES[which[image]], count, crowd=i % 100 == 7)
            entry |= {"image_id": image + 1, "category_id": CATEGORIES[int(rng.integers(80))], "id": i + 1}
            file.write((", " if i else "") + json.dumps(entry))
        categories = [{"supercategory": "thing", "id": k, "name": f"class {k}"} for k in CATEGORIES]
        file.write('], "categories": ' + json.dumps(categories) + "}")


def _annotation(rng: np.random.Generator, size: tuple[int, int], count: int, crowd: bool) -> dict[str, Any]:
    width, height = size
    w, h = width * rng.uniform(0.03, 0.5), height * rng.uniform(0.03, 0.5)
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    angle = np.sort(rng.uniform(0, 2 * np.pi, count))
    around = np.stack([x + w / 2 * (1 + np.cos(angle)), y + h / 2 * (1 + np.sin(angle))], axis=1)
    mask: Any = [np.round(around, 2).reshape(-1).tolist()]
    if crowd:
        before, inside = int(x) * height, max(1, int(w)) * height
        mask = {"counts": [before, inside, width * height - before - inside], "size": [height, width]}
    box = [round(float(value), 2) for value in (x, y, w, h)]
    return {"segmentation": mask, "area": round(float(w * h * 0.7), 4), "iscrowd": int(crowd), "bbox": box}


def make_voc(root: Path, images: int, seed: int) -> None:
    """Annotations, JPEGImages and ImageSets/Main/train.txt, three objects an image."""
    rng = np.random.default_rng(seed)
    which = rng.integers(0, len(SIZES), images).tolist()
    names = [f"{i + 1:06d}" for i in range(images)]
    make_images(root / "JPEGImages", [f"{name}.jpg" for name in names], which, rng)
    for part in ("Annotations", "ImageSets/Main"):
        (root / part).mkdir(parents=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("\n".join(names) + "\n")
    for name, k in zip(names, which, strict=True):
        width, height = SIZES[k]
        objects = ""
        for _ in range(int(rng.poisson(2.0)) + 1):
            x, y = int(rng.integers(1, width // 2)), int(rng.integers(1, height // 2))
            box = {"xmin": x, "ymin": y, "xmax": x + int(rng.integers(9, width // 2))}
            box["ymax"] = y + int(rng.integers(9, height // 2))
            corners = "".join(f"\n\t\t\t<{key}>{value}</{key}>" for key, value in box.items())
            objects += f"\n\t<object>\n\t\t<name>{VOC_CLASSES[int(rng.integers(20))]}</name>\n\t\t<pose>Left</pose>"
            objects += f"\n\t\t<truncated>0</truncated>\n\t\t<difficult>{int(rng.random() < 0.1)}</difficult>"
            objects += f"\n\t\t<bndbox>{corners}\n\t\t</bndbox>\n\t</object>"
        size = f"\n\t<size>\n\t\t<width>{width}</width>\n\t\t<height>{height}</height>\n\t\t<depth>3</depth>\n\t</size>"
        head = f"<annotation>\n\t<folder>VOC2007</folder>\n\t<filename>{name}.jpg</filename>{size}"
        (root / "Annotations" / f"{name}.xml").write_text(f"{head}{objects}\n</annotation>\n")


def read_once(kind: str, root: Path, reader: str) -> dict[str, float]:
    """Seconds (wall, processor) and peak memory in GB of this process."""
    import clop_det  # noqa: F401

    if reader == "Detectron2":
        from detectron2.data.datasets import load_coco_json, load_voc_instances

        def run() -> None:
            if kind == "coco":
                load_coco_json(str(root / "annotations" / "instances_train.json"), str(root / "train"), "made")
            else:
                load_voc_instances(str(root), "train", VOC_CLASSES)
    else:
        from clop_det.annotations.datasets import set_num_classes, use_datasets
        from clop_det.config.reading import read_config
        from clop_det.detection.run_data import check_data, keep_data

        entry = {"NAME": "made", "LAYOUT": kind, "ROOT": str(root), "SPLIT": "train"}
        options = ["DATASETS.REGISTER", str([entry]), "DATASETS.TRAIN", "('made',)", "DATASETS.TEST", "('made',)"]
        options += ["MODEL.ROI_HEADS.NUM_CLASSES", "0", "OUTPUT_DIR", str(root.parent / "run")]
        cfg = read_config("", options).clone()
        cfg.defrost()

        def run() -> None:
            use_datasets(cfg)
            set_num_classes(cfg)
            check_data(cfg)
            keep_data(cfg)

    start, used = time.perf_counter(), time.process_time()
    run()
    wall, processor = time.perf_counter() - start, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"wall": wall, "processor": processor, "peak": peak}


def measure(kind: str, root: Path, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Every reader in turn, each in a process of its own, `rounds` times."""
    found: dict[str, list[dict[str, float]]] = {reader: [] for reader in READERS}
    cache = root.parent / "cache"
    for _ in range(rounds):  # not in another order: the second start needs the first one's cache
        shutil.rmtree(cache, ignore_errors=True)
        for reader in READERS:
            command = [sys.executable, "-W", "ignore", __file__, "--folder", str(root.parent), "--one", kind, reader]
            environment = {**os.environ, "CLOP_DET_CACHE": str(cache)}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            found[reader].append(json.loads(done.stdout.splitlines()[-1]))
            print(kind, reader, found[reader][-1], flush=True)
    return found


def main() -> None:
    """Make, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the data, about 600 MB; what is there is used")
    parser.add_argument("--images", type=int, default=118_287)
    parser.add_argument("--boxes", type=int, default=860_001)
    parser.add_argument("--voc", type=int, default=16_551)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    parser.add_argument("--one", nargs=2, metavar=("KIND", "READER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        kind, reader = arguments.one
        print(json.dumps(read_once(kind, arguments.folder / kind, reader)))
        return
    if not (arguments.folder / "coco").is_dir():
        make_coco(arguments.folder / "coco", arguments.images, arguments.boxes, arguments.seed)
    if not (arguments.folder / "voc").is_dir():
        make_voc(arguments.folder / "voc", arguments.voc, arguments.seed)
    found = {kind: measure(kind, arguments.folder / kind, arguments.rounds) for kind in ("coco", "voc")}
    print(f"\nmedian (smallest to largest) of {arguments.rounds}")
    for kind, readers in found.items():
        for reader, rows in readers.items():
            cells = []
            for key in ("wall", "processor", "peak"):
                cells.append(told(spread([row[key] for row in rows])))
            print(f"| {kind} | {reader} | {' | '.join(cells)} |")
    size = (arguments.folder / "coco" / "annotations" / "instances_train.json").stat().st_size
    ratios = {
        f"{kind}: {reader} over {READERS[0]}": ratio(*(used(readers[name]) for name in (reader, READERS[0])), LOWER)
        for kind, readers in found.items()
        for reader in READERS[1:]
    }
    write_figures(arguments.output, arguments, ratios, json_bytes=size, processors=os.cpu_count(), runs=found)


def used(rows: list[dict[str, float]]) -> list[float]:
    """Processor seconds in every round."""
    return [row["processor"] for row in rows]


if __name__ == "__main__":
    main()
