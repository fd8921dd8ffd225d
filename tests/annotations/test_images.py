"""Images of dataset dicts: one strict reader, and what INPUT.MAX_PIXELS refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detectron2.data import detection_utils as utils
from PIL import Image

from clop_det.annotations.datasets import checks_of
from clop_det.annotations.images import AS_STORED, read_image
from clop_det.errors import UserError
from tests.detection.spoiled import COCO, VOC, exif, spoiled

pytestmark = pytest.mark.usefixtures("cache_folder")


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1"])
@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_sound_image_has_detectron2s_pixels(tmp_path: Path, mode: str, image_format: str, orientation: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    Image.fromarray(noise).convert(mode).save(path, exif=exif(orientation))
    found = read_image({"file_name": str(path)}, image_format)
    assert np.array_equal(found, utils.read_image(str(path), image_format))
    stored = read_image({"file_name": str(path), AS_STORED: True}, image_format)
    assert stored.shape == (24, 40, 3)


def test_a_png_that_breaks_in_the_middle_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / "x.png"
    Image.fromarray(noise).save(path)
    content = bytearray(path.read_bytes())
    content[6000:6040] = bytes(40)
    path.write_bytes(content)
    assert utils.read_image(str(path), "RGB").shape == (64, 64, 3)  # goes on with what it has
    with pytest.raises(UserError, match=r"cannot read image .*x\.png: "):
        read_image({"file_name": str(path)}, "RGB")


@pytest.mark.parametrize("layout", [VOC, COCO])
def test_an_image_beyond_the_limit_is_named_with_the_key(
    tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "clop_det.annotations.datasets.use_decoding", lambda settings: None
    )  # the limit set below stays
    data = spoiled(tmp_path, layout, lambda d: None)
    for limit in (40 * 24 - 1, 40 * 24 // 2 - 1):  # Pillow itself refuses past twice its limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(
            UserError, match=f"40 x 24 pixels are more than Pillow's limit of {limit}. Set INPUT.MAX_PIX"
        ):
            data.load()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 24)
    assert len(data.load()) == 2
    assert checks_of("checked").entries == {}
