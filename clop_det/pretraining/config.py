"""Config keys of the pretraining loop."""

from __future__ import annotations

from clop_det.keys import (
    PRETRAINING,
    Key,
    above,
    at_least,
    between,
    constrain,
    declare,
    one_of,
    unless_none,
    with_remedy,
)

declare(
    PRETRAINING,
    {
        "PRETRAIN.FROM": Key(
            "",
            "Checkpoint of any known source whose backbone the encoder starts from; empty: random weights.",
            content=False,
        ),
        "SOLVER.LARS_TRUST_COEFFICIENT": Key(0.001, "LARS: local learning rate = coefficient * |w| / |g|.", above(0)),
        "SOLVER.CHANNELS_LAST": Key(
            True,
            "Whether the encoder computes in the channels-last memory layout: faster with bf16 and on GPUs, same"
            " results.",
        ),
        "SOLVER.COMPILE": Key(
            False, "Whether torch.compile compiles the encoder, which takes a minute; on a CPU there was no gain."
        ),
        "SOLVER.MAX_SKIPPED": Key(
            0,
            "Steps of a run that may be left out because loss or gradient is not finite; one more stops the run.",
            at_least(0),
        ),
        "SOLVER.ACCUMULATE": Key(
            1,
            "Micro-batches that a process cuts its part of the batch into, to save memory: the loss and its gradient"
            " stay those of the whole batch, at the price of one more forward pass; BatchNorm sees micro-batches.",
            at_least(1),
        ),
        "SOLVER.LR_SCALING": Key(
            "none",
            "How the learning rate follows the global batch: none: BASE_LR as it stands; linear: BASE_LR * b, sqrt:"
            " BASE_LR * sqrt(b), with b = IMS_PER_BATCH / LR_REFERENCE_BATCH.",
            one_of("none", "linear", "sqrt"),
        ),
        "SOLVER.LR_REFERENCE_BATCH": Key(
            256, "Global batch, in images, for which BASE_LR is meant under linear and sqrt.", at_least(1)
        ),
        "COLLAPSE.MIN_RANKME": Key(
            1.5,
            "The embeddings of a training batch count as collapsing below this RankMe of the unit embeddings, in"
            " directions; 1 is a single direction, 0 switches the check off.",
            at_least(0),
        ),
        "COLLAPSE.MAX_MEAN_NORM": Key(
            0.95,
            "They also do above this norm of the mean unit embedding; 1 switches the check off.",
            between(0, 1, "(]"),
        ),
        "COLLAPSE.STOP": Key(
            False,
            "Whether a run stops (saved) when it has been past a threshold for PATIENCE lines in a row; else it only"
            " warns.",
        ),
        "COLLAPSE.PATIENCE": Key(3, "Lines of the log in a row.", at_least(1)),
    },
)
constrain(
    PRETRAINING,
    {
        "INPUT.FORMAT": with_remedy(one_of("RGB"), "Set INPUT.FORMAT RGB."),
        "SOLVER.BASE_LR": above(0),
        "SOLVER.MOMENTUM": between(0, 1, "[)"),
        "SOLVER.WEIGHT_DECAY": at_least(0),
        "SOLVER.WEIGHT_DECAY_NORM": unless_none(at_least(0)),
        "SOLVER.WEIGHT_DECAY_BIAS": unless_none(at_least(0)),
        "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": one_of("value", "norm"),
        "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": above(0),
    },
)
