"""Images of one data set that are the same file under several names."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clop_det.annotations.checks.findings import beyond_share
from clop_det.errors import UserError

_NOTHING = hashlib.sha256(b"").digest()  # of what could not be read


def check_copies(data_set: str, names: Sequence[str], digests: NDArray[np.uint8], max_share: float) -> str:
    """What to say of the images whose content is that of an earlier one; empty: there are none.

    Args:
        names: (N,) of the images of `data_set`.
        digests: (N, 32) SHA-256 of their content.
        max_share: DATASETS.MAX_FAULT_SHARE.

    Raises:
        UserError: so many that they must have a common cause.
    """
    first: dict[bytes, int] = {}
    pairs = []
    for index, digest in enumerate(map(bytes, digests)):
        earlier = first.setdefault(digest, index)
        if earlier != index and digest != _NOTHING:
            pairs.append((earlier, index))
    if not pairs:
        return ""
    one, other = pairs[0]
    said = (
        f"{len(pairs)} of {len(names)} images of {data_set} are copies of others under another name, such as"
        f" {names[other]} of {names[one]}"
    )
    if beyond_share(len(pairs), len(names), max_share):
        raise UserError(
            f"data set {data_set}: {said}. An export may have written a copy of the image for each object, and what the"
            " other copies say is then learnt as background. Keep one of the files and give it all boxes, or set"
            " DATASETS.MAX_FAULT_SHARE to 1.0 to keep them all."
        )
    return said
