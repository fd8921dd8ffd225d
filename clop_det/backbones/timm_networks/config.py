"""Config keys of a detector that carries one of timm's networks."""

from __future__ import annotations

from clop_det.keys import DETECTION, Key, at_least, between, declare, one_of

declare(
    DETECTION,
    {
        "MODEL.TIMM.ARCH": Key(
            "", "The network of a build_timm_* backbone, as ENCODER.ARCH names it, e.g. timm:convnext_tiny."
        ),
        "MODEL.TIMM.OUT_FEATURES": Key(
            [],
            "Maps that the network gives, e.g. stage2; empty: all stages, the last block of a plain transformer.",
        ),
        "MODEL.TIMM.MAP_NORM": Key(
            "none",
            "LN: a new layer normalisation of each map, as Swin's and ConvNeXt's detectors have.",
            one_of("none", "LN"),
        ),
        "MODEL.TIMM.NORM": Key(
            "BN",
            "What the network's BatchNorm layers, if it has any, do: BN, SyncBN over all GPUs, or FrozenBN.",
            one_of("BN", "SyncBN", "FrozenBN"),
        ),
        "MODEL.TIMM.DROP_PATH": Key(
            0.0, "Stochastic depth: rate of the last block, from 0 at the first one.", between(0, 1, "[)")
        ),
        "MODEL.TIMM.WINDOW_SIZE": Key(
            0,
            "Plain transformers: side of the windows that attention stays in, in patches (ViTDet: 14); 0: attention"
            " over the whole image. With windows there are no class and register tokens.",
            at_least(0),
        ),
        "MODEL.TIMM.GLOBAL_BLOCKS": Key(
            4, "Blocks with attention over the whole image among those with windows, evenly spaced.", at_least(0)
        ),
        "MODEL.TIMM.LR_DECAY": Key(
            1.0,
            "Learning rate of a layer of the network by that of the next one (ViTDet: 0.7 for ViT-B); 1: the same for"
            " all.",
            between(0, 1, "(]"),
        ),
    },
)
