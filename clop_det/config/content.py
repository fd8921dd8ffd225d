"""What a config says of what a run computes: the part of it that a job's identity rests on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clop_det.config.files import flatten
from clop_det.keys import declared
from clop_det.registry import in_use

# Places: what lies there counts by its content (see `pretraining.identity`, `detection.identity`, `source_code`).
PLACES = ("OUTPUT_DIR", "MODEL.WEIGHTS", "IMPORTS")


def content_of(cfg: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """The values by dotted key that count for a run of `stage`.

    All count but those of keys that only another stage reads, of options of registered things that the run does not
    use, and of keys that are declared to change no figure or to name a place.
    """
    known, used = declared(), in_use(cfg, stage)
    content = {}
    for name, value in flatten(cfg):
        item = known.get(name)
        counts = item is None or (
            item.key.content and stage in item.stages and (item.owner is None or item.owner in used)
        )
        if counts and name not in PLACES:
            content[name] = list(value) if isinstance(value, tuple) else value
    return content
