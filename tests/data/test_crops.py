"""Fast crops of streamed JPEGs: their fraction, places, pixels beside exact ones, and the same refusals."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as reference

from clop_det.data.augment import AugmentSettings, ViewAugmentation
from clop_det.data.crops import Box, Opened, ReducedImage, Share, WholeImage, factor_for, reduced
from clop_det.data.decoding import UnreadableImage, decode
from clop_det.data.image_list import ImageList
from clop_det.data.image_sources import FileSource, JoinedSource
from clop_det.data.layouts import read_images
from clop_det.data.streaming import open_stream
from clop_det.data.unreadable import Unreadable
from clop_det.data.views import STANDARD, ViewGroup, ViewPlan

CPU = torch.device("cpu")
SIZE = 12
ALL = (0.0, 0.0, 1.0, 1.0)


def jpeg(image: Image.Image, turn: int = 1, **options: object) -> bytes:
    """The file of an image that EXIF turns; one that is upright has no EXIF."""
    file, exif = io.BytesIO(), Image.Exif()
    if turn > 1:
        exif[0x0112] = turn
        options["exif"] = exif
    image.save(file, "JPEG", **{"quality": 95, **options})  # type: ignore[arg-type]
    return file.getvalue()


def cut(image: Opened, share: Share, size: int) -> tuple[torch.Tensor, Box]:
    """The crop of an image, and what was cut; the same in rooms that lie otherwise in memory."""
    rooms = [
        torch.empty(2, size, size, 3, dtype=torch.uint8).movedim(-1, 1),
        torch.empty(2, 3, size, size, dtype=torch.uint8),
    ]
    box, other = (image.cut(share, room[1]) for room in rooms)
    assert box == other
    assert torch.equal(rooms[0][1], rooms[1][1])
    return rooms[0][1], box


def smooth(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture of large soft spots, as photographs have and noise has not."""
    spots = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(spots).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> ImageList:
    """24 JPEGs of 20 to 250 pixels, turned in every way, and two PNGs."""
    root = tmp_path_factory.mktemp("photos")
    for index in range(26):
        path = root / "train" / "ab"[index % 2] / f"{index:02d}.{'jpg' if index < 24 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = smooth(20 + 10 * index, 31 + 7 * index, index)
        if index < 24:
            path.write_bytes(jpeg(image, 1 + index % 8))
        else:
            image.save(path)
    return read_images("folder", root, "train")


def _plan(listed: ImageList, batch: int = 8, rank: int = 0, world_size: int = 1, **settings: object) -> ViewPlan:
    augment = ViewAugmentation(AugmentSettings(**settings), SIZE, [0, 0, 0], [255, 255, 255])  # type: ignore[arg-type]
    return ViewPlan(augment, 3, len(listed), batch, rank, world_size)


def _views(listed: ImageList, plan: ViewPlan, workers: int, *iterations: int) -> list[torch.Tensor]:
    views = open_stream(listed, SIZE, workers, crops="fast").views(plan, CPU)
    return [views(iteration).stacked for iteration in iterations]


def test_batches_do_not_depend_on_workers_or_on_where_one_starts(
    listed: ImageList, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, factors = _plan(listed), set()

    def noted(self: FileSource, index: int, choose: object, cut: object = FileSource.reduced) -> ReducedImage:
        image: ReducedImage = cut(self, index, choose)  # type: ignore[operator]
        factors.add(image.factor)
        return image

    monkeypatch.setattr(FileSource, "reduced", noted)
    alone = _views(listed, plan, 0, 0, 1, 2, 3, 4, 5)
    assert factors == {1, 2, 4, 8}
    for workers, iterations in ((1, (3, 4, 0)), (2, (0, 1, 2, 3, 4, 5)), (3, (2, 3))):
        for iteration, views in zip(iterations, _views(listed, plan, workers, *iterations), strict=True):
            assert torch.equal(views, alone[iteration])


def test_the_ranks_share_the_batch_of_one(listed: ImageList) -> None:
    plan = _plan(listed, jitter_prob=0.0, grey_prob=0.0)
    (whole,) = _views(listed, plan, 0, 2)
    parts = [
        _views(listed, _plan(listed, rank=rank, world_size=2, jitter_prob=0.0, grey_prob=0.0), 0, 2)[0]
        for rank in range(2)
    ]
    joined = torch.cat([part.view(2, 4, 3, SIZE, SIZE) for part in parts], dim=1)
    assert torch.equal(joined, whole.view(2, 8, 3, SIZE, SIZE))


def test_headers_that_are_wrong_change_nothing(listed: ImageList, monkeypatch: pytest.MonkeyPatch) -> None:
    (expected,) = _views(listed, _plan(listed), 0, 1)
    monkeypatch.setattr(FileSource, "extent", lambda self, index: (10, 70))
    assert torch.equal(_views(listed, _plan(listed), 0, 1)[0], expected)


def test_fast_views_are_near_torchvisions_crops_of_their_boxes(listed: ImageList) -> None:
    plan = _plan(listed, jitter_prob=0.0, grey_prob=0.0)
    views = open_stream(listed, SIZE, crops="fast").views(plan, CPU)(1)
    for view in range(2):
        for place, index in enumerate(plan.indices(1).tolist()):
            x0, y0, x1, y1 = views.boxes[view, place].int().tolist()
            image = listed.source.image(index)
            cut = reference.resized_crop(image, y0, x0, y1 - y0, x1 - x0, [SIZE, SIZE], antialias=True)
            cut = reference.horizontal_flip(cut) if views.flips[view, place] else cut
            expected = torch.from_numpy(np.array(cut)).permute(2, 0, 1)
            assert (255 * views.pixels[view, place] - expected).abs().mean() < 2.5


@pytest.mark.parametrize(
    ("extents", "size", "expected"),
    [
        ([(1600, 1200)], 224, 4),
        ([(1600, 1200), (900, 447)], 224, 1),
        ([(1600, 1200), (900, 448)], 224, 2),
        ([(1792, 1800)], 224, 8),
        ([(100, 100)], 224, 1),
        ([(9000, 9000)], 224, 8),
    ],
)
def test_the_fraction_leaves_every_crop_as_large_as_its_view(
    extents: list[tuple[int, int]], size: int, expected: int
) -> None:
    width, height = 10_000, 9_000
    crops = [((0.0, 0.0, across / width, down / height), size) for across, down in extents]
    assert factor_for(crops, width, height) == expected


def test_views_of_several_sizes_count_with_their_own() -> None:
    assert factor_for([(ALL, 50), ((0.1, 0.1, 0.5, 0.5), 25)], 400, 400) == 8
    assert factor_for([(ALL, 50), ((0.1, 0.1, 0.5, 0.5), 26)], 400, 400) == 4


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_what_a_box_says_is_where_the_view_was_cut(turn: int, factor: int) -> None:
    """On a ramp a pixel's value is its place; the sides leave a rest when they are divided by the fraction."""
    width, height = 237, 181
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    ramp = np.stack([x, y, 0 * x + 77], axis=-1).astype(np.uint8)
    stored = Image.fromarray(ramp)
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that undoes what EXIF asks for
    if turn in back:
        stored = stored.transpose(Image.Transpose(back[turn]))
    image = reduced(jpeg(stored, turn, quality=100, subsampling="4:4:4"), "x", lambda w, h: factor)
    assert (image.width, image.height, image.factor) == (width, height, factor)
    for share in [ALL, (0.13, 0.21, 0.55, 0.5), (0.4, 0.37, 0.6, 0.63), (0.0, 0.5, 0.5, 0.5)]:
        size = int(min(share[2] * width, share[3] * height)) // factor
        view, (x0, y0, x1, y1) = cut(image, share, size)
        drawn = (share[0] * width, share[1] * height)
        assert abs(x0 - drawn[0]) <= factor + 0.51
        assert abs(y0 - drawn[1]) <= factor + 0.51
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        middles = (torch.arange(size) + 0.5) / size
        for channel, (start, end) in enumerate(((x0, x1), (y0, y1))):
            off = view[channel].double().mean(channel) - (start + middles * (end - start) - 0.5)
            assert off[2:-2].mean().abs() < 0.35
            assert off[2:-2].abs().max() < 1.5
            assert off.abs().max() < factor + 1  # at the ends there is less to average
        assert (view[2].double() - 77).abs().max() <= 4


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_one_colour_stays_one_colour(factor: int) -> None:
    image = reduced(jpeg(Image.new("RGB", (150, 97), (200, 30, 90))), "x", lambda w, h: factor)
    view, _ = cut(image, (0.1, 0.1, 0.8, 0.8), 5)
    assert (view.double() - torch.tensor([200.0, 30, 90])[:, None, None]).abs().max() <= 2


def test_a_crop_is_the_one_that_torch_interpolates() -> None:
    image = reduced(jpeg(smooth(150, 97)), "x", lambda w, h: 1)
    view, (x0, y0, x1, y1) = cut(image, (0.1, 0.2, 0.8, 0.7), 33)
    part = image.pixels[y0:y1, x0:x1].permute(2, 0, 1).contiguous()
    expected = torch.nn.functional.interpolate(part[None], (33, 33), mode="bilinear", antialias=True)[0]
    assert torch.equal(view, expected)


def test_a_crop_of_the_whole_image_is_within_one_level_of_pillows() -> None:
    content = jpeg(Image.fromarray(np.random.default_rng(0).integers(0, 256, (150, 190, 3), dtype=np.uint8)))
    fast, exact = reduced(content, "x", lambda w, h: 1), WholeImage(decode(content, "x"))
    for share in [ALL, (0.1, 0.2, 0.3, 0.7), (0.7, 0.7, 0.2, 0.2), (0.999, 0.999, 0.001, 0.001)]:
        (one, box), (other, same) = cut(fast, share, 40), cut(exact, share, 40)
        assert box == same
        assert (one.int() - other.int()).abs().max() <= 1


@pytest.mark.parametrize("form", ["PNG", "TIFF", "GIF", "BMP", "WEBP"])
def test_other_formats_are_decoded_in_full(form: str, tmp_path: Path) -> None:
    smooth(90, 80).save(tmp_path / "x", form)
    source = FileSource(tmp_path, ["x"])
    for image in (source.reduced(0, lambda w, h: 8), JoinedSource([source], [1]).reduced(0, lambda w, h: 8)):
        assert image.factor == 1
        assert np.array_equal(image.pixels.numpy(), np.asarray(source.image(0)))


def test_the_first_picture_of_a_phones_file_of_several_is_cut() -> None:
    """Pillow calls a JPEG with further pictures behind it an MPO."""
    first, file = smooth(120, 90), io.BytesIO()
    first.save(file, "MPO", quality=95, save_all=True, append_images=[first.rotate(180)])
    alone = reduced(jpeg(first), "x", lambda w, h: 2)
    assert torch.equal(reduced(file.getvalue(), "x", lambda w, h: 2).pixels, alone.pixels)


def test_what_is_refused_is_refused_in_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = jpeg(smooth(120, 90))
    for content in (b"", b"text", whole[:40], whole[: len(whole) // 2], whole[:-40], whole[:2] + bytes(30) + whole[2:]):
        said = []
        for read in (lambda content: decode(content, "x"), lambda content: reduced(content, "x", lambda w, h: 2)):
            with pytest.raises(UnreadableImage) as caught:
                read(content)
            said.append(str(caught.value).split(" (")[0])
        assert said[0] == said[1]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_799)
    with pytest.raises(UnreadableImage, match="120 x 90 pixels are more than"):
        reduced(whole, "x", lambda w, h: 8)


def test_another_image_stands_in_with_crops_of_its_own(listed: ImageList, tmp_path: Path) -> None:
    small, large = smooth(30, 20), smooth(300, 200)
    for name, content in (("0.jpg", jpeg(small)[:300]), ("1.jpg", jpeg(large)), ("2.jpg", jpeg(large))):
        path = tmp_path / "train" / "a" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    photos = read_images("folder", tmp_path, "train")
    stream = open_stream(photos, SIZE, 0, Unreadable("replace", 0.9), crops="fast")
    views = stream.views(_plan(photos, batch=3, jitter_prob=0.0, grey_prob=0.0), CPU)(0)
    assert stream.replacements.replaced == {0: 1}
    assert views.boxes[..., 2].max() > 30


def test_each_group_of_views_is_cut(listed: ImageList) -> None:
    plan = _plan(listed)
    small = ViewPlan(
        ViewAugmentation(AugmentSettings(), 6, [0, 0, 0], [255, 255, 255]),
        *(3, len(listed), 8, 0, 1, ViewGroup((STANDARD,) * 3, 6), (), "augment 1"),
    )
    views = open_stream(listed, SIZE, crops="fast").views(
        ViewPlan(plan.augment, 3, len(listed), 8, further=(small,)), CPU
    )(0)
    assert views.pixels.shape == (2, 8, 3, SIZE, SIZE)
    assert views.further[0].pixels.shape == (3, 8, 3, 6, 6)
