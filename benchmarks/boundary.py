"""Does the check for test images among training images raise false alarms, and does it find planted copies?

python benchmarks/boundary.py ../shared/data
python benchmarks/boundary.py ../shared/data --output docs/results/boundary.json

The folder holds the sets bccd_voc, aquarium_det and grocery_cls. No two of their splits share a picture, so every pair
that is found there is a false alarm; its paths are printed. Then copies of test images are planted: the file itself,
the picture at 0.85 of its side, and that as a JPEG of quality 40; each must be found with its own original.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from tabulate import tabulate

from clop_det.annotations.overlap import Prints, common_images, prints_of
from clop_det.data.image_sources import FileSource

ENDINGS = (".jpg", ".jpeg", ".png")
PLANTED = 100  # test images of each set


def of_voc(root: Path, split: str) -> list[Path]:
    """The images of a split by its list of names."""
    names = (root / "ImageSets" / "Main" / f"{split}.txt").read_text().split()
    return [path for name in names for path in (root / "JPEGImages").glob(f"{name}.*") if path.suffix in ENDINGS]


def of_folder(root: Path, split: str) -> list[Path]:
    """All images below the folder of a split."""
    return sorted(path for path in (root / split).rglob("*") if path.suffix.lower() in ENDINGS)


SETS: dict[str, tuple[Callable[[Path, str], list[Path]], tuple[str, ...]]] = {
    "bccd_voc": (of_voc, ("train", "val", "test")),
    "aquarium_det": (of_voc, ("train", "val", "test")),
    "grocery_cls": (of_folder, ("train", "val", "test")),
}


def prints(files: Sequence[Path]) -> Prints:
    """The prints of some files."""
    names = [str(path) for path in files]
    return prints_of(FileSource(Path(), names), names)


def alarms(splits: dict[str, Prints]) -> dict[str, list[tuple[str, str]]]:
    """For each pair of splits, the pairs of files that the check takes for one picture."""
    found, names = {}, list(splits)
    for place, one in enumerate(names):
        for other in names[place + 1 :]:
            pairs = common_images(splits[one], splits[other])
            found[f"{one} and {other}"] = [(splits[one].names[a], splits[other].names[b]) for a, b in pairs]
    return found


def planted(files: Sequence[Path], folder: Path) -> dict[str, int]:
    """How many of the files are found among planted copies, each as its own original and no other."""
    found = {}
    for kind, scale, quality in (("same", 1.0, 0), ("resized", 0.85, 0), ("resized, JPEG 40", 0.85, 40)):
        copies = []
        for index, file in enumerate(files):
            content = file.read_bytes()
            if scale < 1:
                image = Image.open(file).convert("RGB")
                buffer = io.BytesIO()
                small = image.resize((round(image.width * scale), round(image.height * scale)))
                small.save(buffer, "JPEG" if quality else "PNG", **({"quality": quality} if quality else {}))
                content = buffer.getvalue()
            copies.append(folder / f"{kind[-2:]}{scale}_{index}{'.jpg' if quality else '.png'}")
            copies[-1].write_bytes(content)
        pairs = common_images(prints(copies), prints(files))
        found[kind] = sum(a == b for a, b in pairs)
        found["as another picture"] = found.get("as another picture", 0) + sum(a != b for a, b in pairs)
    return found


def main() -> None:
    """Print both tables, and each false alarm with its paths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, help="write the counts as JSON, too")
    args = parser.parse_args()
    counts: dict[str, Any] = {}
    for name, (read, splits) in SETS.items():
        files = {split: read(args.data / name, split) for split in splits}
        found = alarms({split: prints(own) for split, own in files.items()})
        for pair in (pair for pairs in found.values() for pair in pairs):
            print("one picture:", *pair)
        step = max(1, len(files["test"]) // PLANTED)
        tests = files["test"][::step][:PLANTED]
        with tempfile.TemporaryDirectory() as folder:
            copies = planted(tests, Path(folder))
        images = {split: len(own) for split, own in files.items()}
        counts[name] = {"images": images, "alarms": sum(map(len, found.values())), "planted": len(tests), **copies}
    rows = [
        [name, *[", ".join(f"{k} {v}" for k, v in x["images"].items())], *list(x.values())[1:]]
        for name, x in counts.items()
    ]
    print(tabulate(rows, ["set", "images", *list(counts[next(iter(counts))])[1:]]))
    if args.output:
        args.output.write_text(json.dumps(counts, indent=1) + "\n")


if __name__ == "__main__":
    main()
