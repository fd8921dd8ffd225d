"""The photographs and the contenders of `streaming.py`."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clop_det  # noqa: F401  (makes `import detectron2` work)

# isort: split
import torch
import torchvision.transforms as v1
from lightly.data import LightlyDataset
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2

from clop_det.data import turbo
from clop_det.data.augment import AugmentSettings, ViewAugmentation
from clop_det.data.layouts import read_images
from clop_det.data.streaming import open_stream
from clop_det.data.views import ViewPlan

SIZE, IMAGES, SCALE = 224, 32, (0.2, 1.0)
FAST, PILLOW_ONLY, EXACT = "ours, fast", "ours, fast, without simplejpeg", "ours, exact"
SIMPLEJPEG: Any = turbo.simplejpeg
FLOOR = "decoding and resizing alone"  # not a loader: what is left if all else took no time
OURS = (FAST, PILLOW_ONLY, EXACT)
Batch = Callable[[], object]


def make_sets(data: Path, folder: Path) -> dict[str, Path]:
    """Folders of `IMAGES` JPEGs each, by name, in the layout of an image folder."""
    photographs = sorted((data / "coco_cc_by").rglob("*.jpg"))
    pictures = [Image.open(path).convert("RGB") for path in photographs[:IMAGES]]
    sets: dict[str, list[bytes]] = {
        f"{name}, as it is": [path.read_bytes() for path in sorted((data / name).rglob("*.jpg"))[:IMAGES]]
        for name in ("coco_cc_by", "bccd_voc")
    }
    for side in ((500, 375), (1600, 1200)):
        sized = [side if picture.width > picture.height else side[::-1] for picture in pictures]
        scaled = [p.resize(to, Image.Resampling.BICUBIC) for p, to in zip(pictures, sized, strict=True)]
        sets[f"{side[0]} x {side[1]}"] = [_jpeg(picture) for picture in scaled]
    sets["1600 x 1200, mosaic"] = [_jpeg(_mosaic(pictures, first)) for first in range(IMAGES)]
    for name, contents in sets.items():
        place = folder / name / "train" / "a"
        place.mkdir(parents=True)
        for number, content in enumerate(contents):
            (place / f"{number:02d}.jpg").write_bytes(content)
    return {name: folder / name for name in sets}


def _jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()


def _mosaic(pictures: list[Image.Image], first: int) -> Image.Image:
    whole, place = Image.new("RGB", (1600, 1200)), first
    for top in range(0, 1200, 400):
        for left in range(0, 1600, 400):
            picture = pictures[place % len(pictures)]
            whole.paste(picture.crop((0, 0, 400, 400)), (left, top))
            place += 1
    return whole


def our_plan() -> ViewPlan:
    """One batch of all images."""
    augment = ViewAugmentation(AugmentSettings(crop_scale=SCALE), SIZE, [0, 0, 0], [255, 255, 255])
    return ViewPlan(augment, 3, IMAGES, IMAGES)


def ours(root: Path, crops: str, simplejpeg: bool = True) -> Batch:
    """A batch as training reads it, without workers; another one at each call."""
    views = open_stream(read_images("folder", root, "train"), SIZE, crops=crops).views(our_plan(), torch.device("cpu"))
    count = iter(range(1_000_000))

    def batch() -> object:
        wanted = SIMPLEJPEG if simplejpeg else None
        if turbo.simplejpeg is not wanted:
            turbo.simplejpeg = wanted
            turbo.is_used.cache_clear()
        return views.read(next(count))

    return batch


def image_folder(root: Path, decodes: int) -> Batch:
    """torchvision's ImageFolder on Pillow; both crops of one decode, or each of its own."""
    crop = v1.Compose([v1.RandomResizedCrop(SIZE, SCALE), v1.PILToTensor()])
    each = 2 // decodes
    images = ImageFolder(root / "train", lambda image: [crop(image) for _ in range(each)])

    def batch() -> Tensor:
        views = [[view for _ in range(decodes) for view in images[index][0]] for index in range(IMAGES)]
        return torch.stack([torch.stack(of_one) for of_one in zip(*views, strict=True)])

    return batch


def lightly(root: Path) -> Batch:
    """lightly's data set and SimCLR transform without all but the crop (its conversion to floats stays)."""
    off: dict[str, Any] = {"cj_prob": 0.0, "random_gray_scale": 0.0, "gaussian_blur": 0.0, "hf_prob": 0.0}
    transform = SimCLRTransform(SIZE, min_scale=SCALE[0], normalize=None, **off)
    images = LightlyDataset(str(root / "train"), transform=transform)

    def batch() -> Tensor:
        views = [images[index][0] for index in range(IMAGES)]
        return torch.stack([torch.stack(of_one) for of_one in zip(*views, strict=True)])

    return batch


def tensors(root: Path, read: Callable[[str], Tensor]) -> Batch:
    """A decoder that gives tensors, and torchvision's v2 crops."""
    paths = [str(path) for path in sorted(root.rglob("*.jpg"))]
    crop = v2.RandomResizedCrop(SIZE, SCALE, antialias=True)

    def batch() -> Tensor:
        views = [[crop(image) for _ in range(2)] for image in map(read, paths)]
        return torch.stack([torch.stack(of_one) for of_one in zip(*views, strict=True)])

    return batch


def _by_torchvision(path: str) -> Tensor:
    return decode_jpeg(read_file(path), ImageReadMode.RGB)


def _by_simplejpeg(path: str) -> Tensor:
    return torch.from_numpy(SIMPLEJPEG.decode_jpeg(Path(path).read_bytes())).permute(2, 0, 1)


def floor(root: Path) -> Batch:
    """simplejpeg's decoding at full size of files in memory, and PyTorch's resizing of crops drawn before, in place."""
    contents = [path.read_bytes() for path in sorted(root.rglob("*.jpg"))]
    sizes = [SIMPLEJPEG.decode_jpeg_header(content)[:2] for content in contents]
    drawn = [
        [v2.RandomResizedCrop(SIZE, SCALE).make_params([torch.empty(3, *size)]) for _ in range(2)] for size in sizes
    ]
    room = torch.empty(2, IMAGES, SIZE, SIZE, 3, dtype=torch.uint8).movedim(-1, 2)
    resize: Any = torch.ops.aten._upsample_bilinear2d_aa

    def batch() -> Tensor:
        for place, (content, boxes) in enumerate(zip(contents, drawn, strict=True)):
            image = torch.from_numpy(SIMPLEJPEG.decode_jpeg(content)).permute(2, 0, 1)
            for view, box in enumerate(boxes):
                rows, columns = (
                    slice(box[at], box[at] + box[side]) for at, side in (("top", "height"), ("left", "width"))
                )
                own = room[view, place : place + 1]
                resize.out(image[None, :, rows, columns], [SIZE, SIZE], False, None, None, out=own)
        return room

    return batch


def contenders(root: Path) -> dict[str, Batch]:
    """All that is installed, by name; ours first."""
    found = {
        FAST: ours(root, "fast"),
        PILLOW_ONLY: ours(root, "fast", simplejpeg=False),
        EXACT: ours(root, "exact"),
        "torchvision ImageFolder, one decode": image_folder(root, 1),
        "torchvision ImageFolder, a decode a crop": image_folder(root, 2),
        "lightly": lightly(root),
        "torchvision.io.decode_jpeg, v2 crops": tensors(root, _by_torchvision),
    }
    if SIMPLEJPEG is None:
        print("simplejpeg is not installed: left out")
        return {name: batch for name, batch in found.items() if name != PILLOW_ONLY}
    return {**found, "simplejpeg, v2 crops": tensors(root, _by_simplejpeg), FLOOR: floor(root)}
