"""Reading an image as its dataset dict says."""

from __future__ import annotations

from typing import Any

import numpy as np
from detectron2.data import detection_utils as utils

from clop_det.data.decoding import decode
from clop_det.errors import UserError
from clop_det.files import read_ordinary

# A key of a dataset dict, set by the checks.
AS_STORED = "as_stored"  # EXIF is not applied: the boxes were drawn on the pixels as they lie in the file


def read_image(record: dict[str, Any], image_format: str) -> np.ndarray:
    """The image of a dataset dict, (H, W, 3) uint8 in the channel order of `image_format` ("RGB" or "BGR").

    Training, evaluation, probes and pictures all read by this function. Detectron2's own goes on with an image that is
    black from the damaged place on.

    Raises:
        UserError: it cannot be decoded.
    """
    path = record["file_name"]
    try:
        content = read_ordinary(path)
    except OSError as error:
        raise UserError(f"cannot read the image {path}: {error.strerror or error}.") from error
    try:
        image = decode(content, path, turn=not record.get(AS_STORED))
    except UserError as error:  # what a process of its own raises is told by this name
        raise UserError(str(error)) from error
    pixels: np.ndarray = utils.convert_PIL_to_numpy(image, image_format)
    return pixels
