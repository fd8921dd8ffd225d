"""The checks of a data set: image files, sizes, EXIF; then boxes and masks. Kinds in `annotations.checks`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from clop_det.annotations.checked_boxes import check_boxes, place_of
from clop_det.annotations.checks import Checks, ImageFacts, facts_of
from clop_det.annotations.checks.image_facts import MISSING, TRUNCATED, UNREADABLE
from clop_det.annotations.table import STORED_FLAG, Images, Table, column_of
from clop_det.data.decoding import oversize

UNKNOWN = -1  # the height and width of an image that no annotation describes
Finder = Callable[[str], str | None]
_FAULTS = {MISSING: "missing_file", UNREADABLE: "unreadable_image", TRUNCATED: "truncated_image"}
_SAID = {
    MISSING: "does not exist",
    UNREADABLE: "is no image, or of an unknown format",
    TRUNCATED: "is truncated: the file ends too early",
}
_MODES = {
    **dict.fromkeys(("P", "PA"), "palette_image"),
    **dict.fromkeys(("RGBA", "LA", "La", "RGBa"), "alpha_image"),
    **dict.fromkeys(("L", "1"), "grey_image"),
    **dict.fromkeys(("CMYK", "YCbCr", "LAB", "HSV"), "cmyk_image"),
}
_FORMATS = {
    ".jpg": ("JPEG", "MPO"),
    ".jpeg": ("JPEG", "MPO"),
    ".png": ("PNG",),
    ".bmp": ("BMP", "DIB"),
    ".webp": ("WEBP",),
    ".gif": ("GIF",),
    ".tif": ("TIFF",),
    ".tiff": ("TIFF",),
}


def check_table(
    table: Table, classes: Sequence[str], checks: Checks, find: Finder = lambda path: None
) -> tuple[Table, list[str]]:
    """Check image files and boxes; what the policies drop is left out.

    Args:
        table: may be changed. Heights and widths may be 0.
        classes: names of the classes.
        checks: takes what is found; `images` and `annotations` are set to what is left.
        find: the path that an image's path means where there is no such file; None: none.

    Returns:
        what is left, and the paths of all images that were looked at.
    """
    paths = table.images.file.tolist()
    facts = facts_of(paths)
    lost = [i for i, known in enumerate(facts) if known.fault == MISSING]
    found = {i: other for i in lost if (other := find(paths[i])) is not None}
    claims = Counter([*found.values(), *(path for i, path in enumerate(paths) if i not in found)]) if found else {}
    for (i, other), known in zip(found.items(), facts_of(list(found.values())), strict=True):
        if claims[other] > 1:
            checks.found("missing_file", f"{paths[i]} does not exist, and {other} is the file of another image")
        elif checks.found("respelled_file", f"{paths[i]} is {other}"):
            paths[i], facts[i] = other, known
    table.images.file = column_of(paths)
    for side in ("height", "width"):
        setattr(table.images, side, getattr(table.images, side).copy())
    dropped = {i for i in found if paths[i] != found[i]}
    kept = [i for i, known in enumerate(facts) if i not in dropped and _check_image(table.images, i, known, checks)]
    table = check_boxes(table.take_images(np.array(kept, dtype=np.int64)), classes, checks)
    checks.images, checks.annotations = len(table), len(table.boxes.owner)
    return table, paths


def _check_image(images: Images, i: int, facts: ImageFacts, checks: Checks) -> bool:
    path = images.file[i]
    if facts.fault:
        checks.found(_FAULTS[facts.fault], f"{path} {_SAID[facts.fault]}")
        return False
    if said := oversize(facts.width, facts.height):
        checks.found("oversized_image", f"{path}: {said}")
        return False
    suffix = path[path.rfind(".") :].lower()
    if facts.format not in _FORMATS.get(suffix, (facts.format,)) and not checks.found(
        "format_mismatch", f"{path} holds {facts.format} data"
    ):
        return False
    return _check_mode(images, i, facts, checks) and _check_size(images, i, facts, checks)


def _check_mode(images: Images, i: int, facts: ImageFacts, checks: Checks) -> bool:
    path = images.file[i]
    if facts.mode.startswith("F"):
        return checks.found("float_image", f"{path} holds floating-point numbers (mode {facts.mode})")
    if facts.deep:
        return checks.found("deep_image", f"{path} has more than 8 bits a channel (mode {facts.mode})")
    kind = _MODES.get(facts.mode)
    return kind is None or checks.found(kind, f"{path} is of mode {facts.mode}")


def _check_size(images: Images, i: int, facts: ImageFacts, checks: Checks) -> bool:
    path, upright, stored = images.file[i], facts.upright_size, (facts.width, facts.height)
    given = (int(images.width[i]), int(images.height[i]))
    use_stored = facts.orientation != 1 and given == stored and upright != stored
    if facts.orientation != 1:
        how = "left as stored, as its annotation says" if use_stored else "turned upright"
        if not checks.found("exif_rotation", f"{path}: EXIF orientation {facts.orientation}, {how}"):
            return False
    size = stored if use_stored else upright
    if use_stored:
        images.flags[i] |= STORED_FLAG
    if given not in (size, (UNKNOWN, UNKNOWN)):
        told = f"{given[0]} x {given[1]}, the image is {size[0]} x {size[1]}"
        kind = "size_mismatch" if min(given) > 0 else "no_size"
        if kind == "size_mismatch" and given == size[::-1]:
            told += " (width and height exchanged)"
        if not checks.found(kind, f"{path}: its annotation says {told}"):
            return False
    images.width[i], images.height[i] = size
    return True


def keep_masked(table: Table, checks: Checks) -> Table:
    """The table without the boxes that a detector of masks cannot learn from: no crowd, and no mask.

    Args:
        table: as `check_table` gives it.
        checks: of the same table; takes what is found, and `annotations` is set to what is left.
    """
    bare = ~table.boxes.masked & (table.boxes.crowd == 0)
    for row in np.flatnonzero(bare).tolist():
        checks.found("no_mask", f"{place_of(table, row)} has no mask to train on")
    table = table.take(~bare)
    checks.annotations = len(table.boxes.owner)
    return table
