"""Config keys of the probes."""

from __future__ import annotations

from clop_det.keys import BOTH, DETECTION, PRETRAINING, Key, above, at_least, declare, each, whole

declare(
    BOTH,
    {
        "PROBE.ENABLED": Key(True, "Whether evaluations fit probes on frozen features."),
        "PROBE.KNN_K": Key(
            (20, 200), "Neighbours of the kNN votes; the first is reported as knn_top1.", each(whole(1))
        ),
        "PROBE.KNN_TEMPERATURE": Key(0.07, "Temperature of the votes exp(cosine / T).", above(0)),
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
    DETECTION,
    {
        "PROBE.MAX_OBJECTS": Key(
            500,
            "Annotated boxes of the training set in the object probe's bank, and at most as many of each test set as"
            " its queries (seeded); 0: no object probe.",
            at_least(0),
        ),
        "PROBE.OBJECT_SIZE": Key(
            0,
            "Side of the squares that the object probe cuts out, in pixels; 0: CLASSIFICATION.IMAGE_SIZE.",
            at_least(0),
        ),
    },
)
declare(
    PRETRAINING,
    {
        "PROBE.KEEP_BEST": Key(
            "knn_top1",
            'Probe figure whose best checkpoint is kept as model_best.pth, e.g. "linear_top1"; empty: none.',
        ),
    },
)
