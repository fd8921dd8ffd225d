"""Config keys of the probes; each probe declares its own options."""

from __future__ import annotations

from clop_det.keys import BOTH, PRETRAINING, Key, at_least, declare

declare(
    BOTH,
    {
        "PROBE.ENABLED": Key(True, "Whether evaluations run probes on the frozen network."),
        "PROBE.TASKS": Key(
            ("knn", "linear", "rankme", "geometry", "embeddings", "objects"),
            "The probes, in order, by their registered names. A stage leaves out those whose data it does not have:"
            " fine-tuning has no embeddings, pretraining no annotated boxes (objects).",
        ),
        "PROBE.MAX_BANK": Key(
            0,
            "At most this many images of the training split in the bank (a seeded subset); 0: all.",
            at_least(0),
        ),
        "PROBE.MAX_QUERIES": Key(
            0,
            "At most this many images of the evaluation split as queries (a seeded subset); 0: all.",
            at_least(0),
        ),
        "PROBE.BATCH_SIZE": Key(256, "Images per forward pass.", at_least(1)),
    },
)
declare(
    PRETRAINING,
    {
        "PROBE.KEEP_BEST": Key(
            "knn_top1",
            'Figure of a probe whose best checkpoint is kept as model_best.pth, e.g. "linear_top1"; empty: none. For'
            " a figure where lower is better, the lowest is the best.",
        ),
    },
)
