"""Config keys of the method and of the network that it trains."""

from __future__ import annotations

from clop_det.keys import PRETRAINING, Key, at_least, declare

declare(
    PRETRAINING,
    {
        "METHOD.NAME": Key(
            "single", "Pretraining method: the name of a registered method; single is one encoder and a loss."
        ),
        "ENCODER.ARCH": Key("resnet18", "Network to pretrain: resnet18, resnet34, resnet50, wide_resnet50_2, ..."),
        "ENCODER.SYNC_BN": Key(
            True,
            "With several processes: whether BatchNorm takes its statistics over all of them, on any device. Without it"
            " the result depends on the number of processes.",
        ),
        "PROJECTOR.HIDDEN_DIM": Key(512, "Width of the projector's hidden layers.", at_least(1)),
        "PROJECTOR.OUT_DIM": Key(
            128, "Dimension d of the embeddings; orthonormal prototypes need d >= number of classes.", at_least(1)
        ),
        "PROJECTOR.NUM_LAYERS": Key(2, "Linear layers of the projector.", at_least(1)),
        "LOSS.NAME": Key("clop", "Pretraining loss, where the method takes one: the name of a registered loss."),
    },
)
