"""The content of classification images, as a job's identity counts it: names, labels and sizes, wherever they lie."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from clop_det.data.digits_path import GENERATOR_VERSION, parse_address
from clop_det.data.opening import list_images
from clop_det.digests import Digests

_SCHEME = "digits:/"  # Path() turns two slashes into one


def address_of(root: str | os.PathLike[str]) -> list[Any] | None:
    """What a digits:// address stands for: set, all parameters and version of the generator; None for a folder.

    Raises:
        UserError: a malformed address.
    """
    text = os.fspath(root)
    if not text.startswith(_SCHEME):
        return None
    return [*parse_address(text.removeprefix(_SCHEME).removeprefix("/")), GENERATOR_VERSION]


def images_digest(settings: Mapping[str, Any], split: str, digests: Digests) -> str:
    """Digest of the images of one split as CLASSIFICATION.* says, which are neither decoded nor generated for it.

    Of files the names, labels and sizes in bytes count; of archives the size and the digest.
    """
    roots = [settings["ROOT"]]
    if settings["UNLABELLED_ROOT"] and split == settings["TRAIN_SPLIT"]:
        roots.append(settings["UNLABELLED_ROOT"])

    def read() -> list[Any]:
        addresses = [address_of(root) for root in roots]
        if None not in addresses:
            return [settings["LAYOUT"], split, addresses]
        listed = list_images(settings, split)
        return [listed.files, listed.labels, listed.classes, listed.source.sizes(len(listed), digests.of_file)]

    where = {key: settings[key] for key in ("LAYOUT", "ROOT", "UNLABELLED_ROOT", "TRAIN_SPLIT")}
    return digests.of(f"classification images of {split}", where, read)
