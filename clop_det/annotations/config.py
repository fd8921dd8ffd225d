"""Config keys of detection data."""

from __future__ import annotations

from clop_det.annotations.checks.kinds import KINDS
from clop_det.keys import DETECTION, Key, between, declare, one_of, with_remedy

declare(
    DETECTION,
    {
        "DATASETS.REGISTER": Key(
            [],
            "Detection data sets to register before the run: a list of mappings, see clop_det.annotations.datasets.",
            content=False,
        ),
        "DATASETS.TRAIN_FRACTION": Key(
            1.0,
            "Share of the training images that the run may see: drawn from SEED alone, a larger share contains a"
            " smaller; 1.0: all. Only images that hold a box count, if DATALOADER.FILTER_EMPTY_ANNOTATIONS. Frozen into"
            " the run folder as train_split.json.",
            between(0, 1, "(]"),
        ),
        "DATASETS.TRAIN_SPLIT_FILE": Key(
            "",
            "A given choice instead of a drawn one: such a JSON file, or a text file with one image id a line; empty:"
            " drawn.",
            content=False,
        ),
        "DATASETS.OVERLAP_ALLOWED": Key(
            (),
            "Test sets that may share images with the training sets or the pretraining images; the others are compared"
            " with them before the run, and it is refused if one does.",
            content=False,
        ),
        "DATASETS.MAX_FAULT_SHARE": Key(
            0.2,
            "Share of the images or annotations of a data set beyond which a kind of fault that has a likely common"
            " cause (boxes written as shares, boxes of other images, ...) stops the run, where its policy in"
            " DATASETS.CHECKS is the default; 1.0: never. Fewer than 10 faults never do.",
            between(0, 1),
        ),
        **{
            f"DATASETS.CHECKS.{kind.name.upper()}": Key(
                kind.default,
                f"What is done where {kind.meaning}."
                + (f" repair: {kind.repair}." if kind.repair else "")
                + f" drop: the {kind.dropped} is left out, with a count. fail: the run is refused.",
                with_remedy(
                    one_of(*kind.policies), "" if kind.repair else "There is nothing to repair such a fault with."
                ),
            )
            for kind in KINDS.values()
        },
    },
)
