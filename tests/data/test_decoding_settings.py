"""INPUT.MAX_PIXELS and INPUT.GREY_BITS: in processes that are not forked, and in the names of what is kept."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clop_det.annotations.overlap import prints_of
from clop_det.data.decoding import CarriesDecoding, use_decoding, used_decoding
from clop_det.data.image_list import ImageList
from clop_det.data.image_sources import FileSource
from clop_det.data.layouts import read_images
from clop_det.data.shards import Cutter
from clop_det.data.store import open_store
from clop_det.data.unreadable import Unreadable
from clop_det.detection.loader import _Batches


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = used_decoding()
    yield
    use_decoding(before)


def deep_grey() -> bytes:
    """A TIFF of two pixels, 0 and 4095: black and the white of 12 bits."""
    file = io.BytesIO()
    Image.fromarray(np.array([[0, 4095]], dtype=np.uint16)).save(file, "TIFF")
    return file.getvalue()


# A process of its own knows nothing but what is pickled for it, as a worker that is spawned.
_ELSEWHERE = """
import pickle, sys
import numpy as np
from clop_det.data.decoding import UnreadableImage, decode
carried, content = pickle.load(sys.stdin.buffer)
try:
    print(np.asarray(decode(content, "x.tif"))[0, :, 0].tolist(), carried.payload)
except UnreadableImage as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"MAX_PIXELS": 1000, "GREY_BITS": 12}, "[0, 255] 3"),
        ({"MAX_PIXELS": 1000, "GREY_BITS": 16}, "[0, 15] 3"),
        ({"MAX_PIXELS": 1, "GREY_BITS": 12}, "2 x 1 pixels are more than"),
    ],
)
def test_what_is_pickled_decodes_elsewhere_as_here(settings: dict[str, int], said: str) -> None:
    use_decoding(settings)
    carried = CarriesDecoding()
    vars(carried)["payload"] = 3
    content = pickle.dumps((carried, deep_grey()))
    done = subprocess.run([sys.executable, "-c", _ELSEWHERE], input=content, capture_output=True, check=True)
    assert said in done.stdout.decode()


@pytest.mark.parametrize("data_set", [_Batches, Cutter])
def test_the_data_sets_of_both_loaders_carry_the_settings(data_set: type) -> None:
    use_decoding({"MAX_PIXELS": 77, "GREY_BITS": 11})
    content = pickle.dumps(data_set.__new__(data_set))
    use_decoding({"MAX_PIXELS": 99, "GREY_BITS": 16})
    pickle.loads(content)
    assert used_decoding() == {"MAX_PIXELS": 77, "GREY_BITS": 11}


def test_prints_of_other_settings_are_not_taken(tmp_path: Path) -> None:
    files = [str(tmp_path / "x.tif")]
    values = np.random.default_rng(0).integers(0, 4096, (40, 40)).astype(np.uint16)
    Image.fromarray(values).save(files[0])

    def seen(pixels: int, bits: int) -> bool:
        use_decoding({"MAX_PIXELS": pixels, "GREY_BITS": bits})
        return bool(prints_of(FileSource(Path(), files), files).pictures.any())

    # Beyond either limit there is no picture; and what was kept for one is not what is given for another.
    assert [seen(1600, 12), seen(1599, 12), seen(1600, 8), seen(1600, 12)] == [True, False, False, True]


@pytest.fixture
def listed(tmp_path: Path) -> ImageList:
    folder = tmp_path / "data" / "train" / "a"
    folder.mkdir(parents=True)
    for k, side in enumerate((20, 30)):
        Image.new("RGB", (side, side), (50 * k, 9, 9)).save(folder / f"{k}.png")
    return read_images("folder", tmp_path / "data", "train")


def test_a_store_of_other_settings_is_another_where_they_can_change_it(listed: ImageList, tmp_path: Path) -> None:
    replacing = Unreadable("replace", 0.5)

    def folder(pixels: int = 10_000, bits: int = 16, unreadable: Unreadable | None = None) -> Path:
        use_decoding({"MAX_PIXELS": pixels, "GREY_BITS": bits})
        return open_store(listed, 8, tmp_path / "stores", unreadable).folder

    assert folder() == folder(pixels=20_000) != folder(bits=12)  # beyond a limit there is no store at all
    assert folder(unreadable=replacing) == folder(unreadable=replacing)
    use_decoding({"MAX_PIXELS": 500, "GREY_BITS": 16})
    store = open_store(listed, 8, tmp_path / "stores", replacing)  # the image of 30 x 30 pixels is replaced here
    assert store.replaced == {1: 0}
    assert store.folder != folder(unreadable=replacing)


def test_the_order_of_the_images_makes_another_store(listed: ImageList, tmp_path: Path) -> None:
    files = tuple(reversed(listed.files))
    other = ImageList(listed.root, files, listed.labels, listed.classes)
    one, two = open_store(listed, 8, tmp_path), open_store(other, 8, tmp_path)
    assert one.folder != two.folder
    assert torch.equal(one.images[:], two.images[:].flip(0))
