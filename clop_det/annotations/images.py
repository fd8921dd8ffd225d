"""Reading an image as its dataset dict says."""

from __future__ import annotations

from typing import Any

import numpy as np
from detectron2.data import detection_utils as utils
from PIL import Image

from clop_det.data.decoding import BROKEN, to_rgb
from clop_det.data.orientation import upright
from clop_det.errors import UserError

# Keys of a dataset dict, set by the checks where Detectron2's own reading would be wrong.
AS_STORED = "as_stored"  # EXIF is not applied: the boxes were drawn on the pixels as they lie in the file
DEEP = "deep"  # more than 8 bits a channel: scaled, where Pillow would clip at 255


def read_image(record: dict[str, Any], image_format: str) -> np.ndarray:
    """The image of a dataset dict, (H, W, 3) uint8 in the channel order of `image_format` ("RGB" or "BGR").

    Raises:
        UserError: it cannot be decoded.
    """
    path = record["file_name"]
    try:
        if not record.get(AS_STORED) and not record.get(DEEP):
            image: np.ndarray = utils.read_image(path, format=image_format)
            return image
        with Image.open(path) as opened:
            pixels = opened if record.get(AS_STORED) else upright(opened)
            converted: np.ndarray = utils.convert_PIL_to_numpy(to_rgb(pixels), image_format)
            return converted
    except BROKEN as error:
        raise UserError(f"cannot read the image {path}: {error}.") from error
