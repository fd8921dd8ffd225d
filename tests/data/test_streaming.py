"""Streaming: crops against torchvision, the same batches whatever the workers, ranks and the place of the start."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as reference

from clop_det.data.augment import AugmentSettings, ViewAugmentation
from clop_det.data.decoding import centre_square
from clop_det.data.image_list import ImageList
from clop_det.data.image_sources import FileSource, ImageSource
from clop_det.data.layouts import read_images
from clop_det.data.shards import Cutter, Tasks
from clop_det.data.store import open_store
from clop_det.data.streaming import open_stream
from clop_det.data.unreadable import Unreadable
from clop_det.data.view_parameters import draw_parameters
from clop_det.data.views import ViewPlan
from clop_det.errors import UserError
from tests import stand_ins

CPU = torch.device("cpu")
SIZE = 12


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> ImageList:
    """24 images of several shapes, wider and higher than SIZE."""
    root = tmp_path_factory.mktemp("photos")
    for index in range(24):
        stand_ins.save(root / "train" / "ab"[index % 2] / f"{index:02d}.jpg", 20 + index, wide=3 * (index % 5))
    return read_images("folder", root, "train")


def _plan(listed: ImageList, batch: int = 8, rank: int = 0, world_size: int = 1, **settings) -> ViewPlan:  # type: ignore[no-untyped-def]
    augment = ViewAugmentation(AugmentSettings(**settings), SIZE, [0, 0, 0], [255, 255, 255])
    return ViewPlan(augment, 3, len(listed), batch, rank, world_size)


def _views(listed: ImageList, plan: ViewPlan, workers: int, *iterations: int) -> list[torch.Tensor]:
    views = open_stream(listed, SIZE, workers).views(plan, CPU)
    return [views(iteration).stacked for iteration in iterations]


def test_batches_do_not_depend_on_workers_or_on_where_one_starts(listed: ImageList) -> None:
    plan = _plan(listed, blur_prob=0.5)
    alone = _views(listed, plan, 0, 0, 1, 2, 3, 4)
    assert alone[0].shape == (16, 3, SIZE, SIZE)
    for workers, iterations in ((2, (0, 1, 2, 3, 4)), (1, (3, 4, 0))):
        for iteration, views in zip(iterations, _views(listed, plan, workers, *iterations), strict=True):
            assert torch.equal(views, alone[iteration])
    assert not torch.equal(alone[0], alone[3])  # the next epoch


def test_a_stop_signal_to_the_process_group_leaves_the_workers(listed: ImageList) -> None:
    plan = _plan(listed)
    views = open_stream(listed, SIZE, 1).views(plan, CPU)
    views(0)
    workers = multiprocessing.active_children()
    assert workers
    for worker in workers:
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(worker.pid, number)  # type: ignore[arg-type]
    for iteration, expected in zip(range(1, 6), _views(listed, plan, 0, *range(1, 6)), strict=True):
        assert torch.equal(views(iteration).stacked, expected)


def test_the_ranks_share_the_batch_of_one(listed: ImageList) -> None:
    (whole,) = _views(listed, _plan(listed), 0, 2)
    parts = [_views(listed, _plan(listed, rank=rank, world_size=2), 0, 2)[0] for rank in range(2)]
    joined = torch.cat([part.view(2, 4, 3, SIZE, SIZE) for part in parts], dim=1)
    torch.testing.assert_close(joined, whole.view(2, 8, 3, SIZE, SIZE), atol=1e-6, rtol=0)


def test_crops_are_torchvisions_and_flips_follow(listed: ImageList) -> None:
    """With colour off, a view is torchvision's antialiased crop of the whole image, mirrored where drawn."""
    plan = _plan(listed, jitter_prob=0.0, grey_prob=0.0)
    (views,) = _views(listed, plan, 0, 1)
    indices = plan.indices(1).tolist()
    images = [listed.source.image(index) for index in indices]
    parameters = plan.parameters(1, torch.tensor([image.width / image.height for image in images]))
    for place, image in enumerate(images):
        for view in range(2):
            left, top, width, height = parameters.boxes[place, view].tolist()
            box = [round(top * image.height), round(left * image.width)]
            box += [round(height * image.height), round(width * image.width)]
            expected = reference.resized_crop(image, *box, [SIZE, SIZE], antialias=True)
            expected = reference.horizontal_flip(expected) if parameters.flip[place, view] else expected
            expected = torch.from_numpy(np.asarray(expected)).permute(2, 0, 1) / 255
            torch.testing.assert_close(views.view(2, -1, 3, SIZE, SIZE)[view, place], expected, atol=1e-5, rtol=0)


def test_all_but_the_crop_is_drawn_as_for_stored_images(listed: ImageList, tmp_path: Path) -> None:
    """Two paths, one plan: with the crop fixed to the whole of square images, stored and streamed views agree."""
    for index in range(8):
        stand_ins.save(tmp_path / "data" / "train" / "a" / f"{index}.png", SIZE)
    square = read_images("folder", tmp_path / "data", "train")
    plan = _plan(square, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), blur_prob=0.5, solarize_prob=0.3)
    stored = open_store(square, SIZE, tmp_path / "stores").views(plan, CPU)(0).stacked
    streamed = open_stream(square, SIZE).views(plan, CPU)(0).stacked
    torch.testing.assert_close(streamed, stored, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("width", "height"), [(3000, 1000), (900, 2400)])
def test_crops_of_oblong_images_are_distributed_as_torchvisions(width: int, height: int) -> None:
    scale, ratio, n = (0.2, 1.0), (3 / 4, 4 / 3), 2000
    settings = AugmentSettings(crop_scale=scale, crop_ratio=ratio)
    aspect = torch.full((n,), width / height)
    boxes = draw_parameters(settings, n, torch.Generator().manual_seed(0), aspect).boxes[:, 0].double().numpy()
    image = torch.empty(1, height, width)
    torch.manual_seed(0)
    crops = [RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(n)]
    expected = np.array([(left / width, top / height, w / width, h / height) for top, left, h, w in crops])
    assert (boxes[:, :2] + boxes[:, 2:] <= 1 + 1e-6).all()
    for column, name in enumerate(("left", "top", "width", "height")):
        # Rounding merges the many values that sit on a bound; a hundredth apart is the same.
        assert ks_2samp(boxes[:, column].round(2), expected[:, column].round(2)).pvalue > 1e-3, name
    shape = boxes[:, 2] * width / (boxes[:, 3] * height)
    assert shape.min() > 0.74
    assert shape.max() < 1.35


def test_a_crop_that_never_fits_is_the_largest_central_one() -> None:
    settings = AugmentSettings(crop_scale=(1.0, 1.0), crop_ratio=(0.5, 2.0))
    draws = torch.Generator().manual_seed(0)
    wide, high, square = draw_parameters(settings, 3, draws, torch.tensor([4.0, 0.25, 1.0])).boxes[:, 0]
    torch.testing.assert_close(wide, torch.tensor([0.25, 0.0, 0.5, 1.0]))
    torch.testing.assert_close(high, torch.tensor([0.0, 0.25, 1.0, 0.5]))
    assert square[2:].max() <= 1


def test_probes_see_the_central_squares(listed: ImageList) -> None:
    images = open_stream(listed, SIZE).images
    assert images.shape == (24, 3, SIZE, SIZE)
    chosen = torch.tensor([5, 0, 5])
    for place, index in enumerate(chosen.tolist()):
        square = centre_square(listed.source.image(index), SIZE)
        assert np.array_equal(images[chosen][place].numpy(), square)
        assert np.array_equal(images[index].numpy(), square)
    assert torch.equal(images[4:6], images[torch.tensor([4, 5])])
    assert images[torch.empty(0, dtype=torch.int64)].shape == (0, 3, SIZE, SIZE)


def test_bad_arguments_are_refused(listed: ImageList) -> None:
    with pytest.raises(UserError, match="no image in"):
        open_stream(ImageList(listed.root, (), torch.empty(0, dtype=torch.int64), ("a",)), SIZE)
    with pytest.raises(ValueError, match="crops must be"):
        _plan(listed).augment.apply_to_crops(
            torch.zeros(8, 3, SIZE, SIZE, dtype=torch.uint8), _plan(listed).parameters(0)
        )


def test_boxes_are_pixels_of_the_whole_image(listed: ImageList) -> None:
    """What lies in a view's box, resized and mirrored where the view says so, is the view."""
    views = open_stream(listed, SIZE).views(_plan(listed, jitter_prob=0.0, grey_prob=0.0), CPU)(1)
    assert views.boxes.shape == (2, 8, 4)
    indices = _plan(listed).indices(1).tolist()
    assert views.flips.any()
    for view in range(2):
        for place, index in enumerate(indices):
            image = listed.source.image(index)
            x0, y0, x1, y1 = views.boxes[view, place].int().tolist()
            assert 0 <= x0 < x1 <= image.width
            assert 0 <= y0 < y1 <= image.height
            cut = reference.resized_crop(image, y0, x0, y1 - y0, x1 - x0, [SIZE, SIZE], antialias=True)
            expected = torch.from_numpy(np.array(cut)).permute(2, 0, 1) / 255
            expected = expected.flip(-1) if views.flips[view, place] else expected
            torch.testing.assert_close(views.pixels[view, place], expected, atol=1e-5, rtol=0)


def test_images_are_cut_as_they_are_decoded(listed: ImageList, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an image is decoded, no more than the one before it is left."""
    decoded: list[weakref.ref[Image.Image]] = []
    left: list[int] = []

    def counted(self: FileSource, index: int) -> Image.Image:
        image = ImageSource.image(self, index)
        left.append(sum(earlier() is not None for earlier in decoded))
        decoded.append(weakref.ref(image))
        return image

    monkeypatch.setattr(FileSource, "image", counted)
    _views(listed, _plan(listed, batch=24), 0, 0)
    assert left == [0, *[1] * 23]


def test_headers_that_are_wrong_or_unreadable_change_nothing(
    listed: ImageList, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = _plan(listed)
    (expected,) = _views(listed, plan, 0, 1)
    for extent in ((10, 70), (1, 1)):
        monkeypatch.setattr(FileSource, "extent", lambda self, index, extent=extent: extent)
        assert torch.equal(_views(listed, plan, 0, 1)[0], expected)


def test_headers_are_of_upright_images(tmp_path: Path) -> None:
    for name, turn in (("a.jpg", 1), ("b.jpg", 6), ("c.png", 8), ("d.tif", 6)):
        image = Image.new("RGB", (30, 20))
        exif = image.getexif()
        exif[0x0112] = turn
        image.save(tmp_path / name, exif=exif)
    source = FileSource(tmp_path, ["a.jpg", "b.jpg", "c.png", "d.tif"])
    assert [source.extent(index) for index in range(4)] == [source.image(index).size for index in range(4)]
    assert source.extent(1) == (20, 30)


def test_after_a_batch_that_failed_the_next_one_has_its_own_images(listed: ImageList, tmp_path: Path) -> None:
    plan = _plan(listed)
    (expected,) = _views(listed, plan, 0, 1)
    shutil.copytree(listed.root / "train", tmp_path / "train")
    damaged = read_images("folder", tmp_path, "train")
    (damaged.root / damaged.files[int(plan.indices(0)[0])]).write_bytes(b"")
    views = open_stream(damaged, SIZE, 2).views(plan, CPU)
    with pytest.raises(UserError, match="cannot read image"):
        views(0)
    assert torch.equal(views(1).stacked, expected)


def test_a_worker_hands_over_a_part_of_a_batch(listed: ImageList) -> None:
    plan = _plan(listed)
    cutter = Cutter(listed, plan, Unreadable())
    tasks = [task for task, _ in zip(Tasks(4, 8, 3), range(4), strict=False)]
    assert tasks == [(4, 0, 3), (4, 3, 6), (4, 6, 8), (5, 0, 3)]
    whole, parts = cutter[4, 0, 8], [cutter[task] for task in tasks[:3]]
    assert [part.crops[0].shape[1] for part in parts] == [3, 3, 2]
    assert torch.equal(torch.cat([part.crops[0] for part in parts], 1), whole.crops[0])
    assert torch.equal(torch.cat([part.boxes[0] for part in parts], 1), whole.boxes[0])


def test_too_little_shared_memory_is_refused(listed: ImageList, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clop_det.engine.workers.shared_memory_free", lambda: 5000)
    message = r"batches of 8 images of 12 px .* 0 MB are free.*--shm-size 1g.*DATALOADER\.NUM_WORKERS 0"
    with pytest.raises(UserError, match=message):
        open_stream(listed, SIZE, 2).views(_plan(listed), CPU)
    assert len(open_stream(listed, SIZE, 0).views(_plan(listed), CPU)(0)) == 8
