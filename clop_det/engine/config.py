"""Config keys of what both trainers share: arithmetic, checkpoints, services."""

from __future__ import annotations

from clop_det.keys import BOTH, Key, at_least, constrain, declare, one_of, with_remedy

# Of a pretraining step on a processor: with fewer, bf16 is less than one and a half times as fast as fp32
# (ResNet-18, docs/results/performance.md), since the update of the weights, in fp32 either way, counts for more.
LEAST_PIXELS = 98_304  # 96 images of 32 px, 24 of 64 px

declare(
    BOTH,
    {
        "SOLVER.OPTIMIZER": Key("SGD", "Optimiser; LARS in pretraining alone.", one_of("SGD", "LARS", "AdamW")),
        "SOLVER.PRECISION": Key(
            "auto",
            "bf16 autocast: where the processor computes in it (auto), always (bf16) or never (fp32). Pretraining on a"
            f" CPU is fp32 under auto, too, if fewer than {LEAST_PIXELS:,} pixels go through the network at once (96"
            " images of 32 px), which gain less than half again. GPUs also take Detectron2's SOLVER.AMP.ENABLED"
            " instead: fp16, gradients scaled, for cards without bf16.",
            one_of("auto", "bf16", "fp32"),
        ),
        "SOLVER.TF32": Key(
            False,
            "On GPUs: whether convolutions and matrix products of fp32 numbers may round them to TF32 (10 bits of"
            " mantissa), which is faster. False: fp32 means IEEE single precision on every device.",
        ),
        "DETERMINISTIC": Key(
            False,
            "On GPUs: whether sums are taken in a fixed order, so that a run repeats to the same bytes on the same card"
            " and build; slower. A kernel that torch has in no fixed order is a warning that names it. A CPU always"
            " does so.",
        ),
        "SOLVER.KEEP_CHECKPOINTS": Key(
            2, "Periodic checkpoints that are kept; the final one is always kept.", at_least(1), content=False
        ),
        "PROCESSES.MAX_STALL": Key(
            300.0,
            "Seconds after which a process of several that stands still (stopped, or waiting for a dead disk within a"
            " step) ends the run with exit code 1. A step may take 4 times as long as the longest before it. 0: never.",
            at_least(0),
            content=False,
        ),
    },
)
constrain(
    BOTH,
    {
        "SEED": with_remedy(at_least(0), "A run is a function of its seed."),
        "SOLVER.IMS_PER_BATCH": at_least(1),
        "SOLVER.MAX_ITER": at_least(1),
        "SOLVER.CHECKPOINT_PERIOD": at_least(1),
        "SOLVER.LR_SCHEDULER_NAME": one_of("WarmupCosineLR", "WarmupMultiStepLR", "WarmupStepWithFixedGammaLR"),
        "SOLVER.WARMUP_METHOD": one_of("linear", "constant"),
        "SOLVER.WARMUP_ITERS": at_least(0),
        "DATALOADER.NUM_WORKERS": at_least(0),
    },
)
declare(
    BOTH,
    {
        "WANDB.ENABLED": Key(
            False,
            'Whether a run reports to Weights & Biases (extra "wandb"; WANDB_MODE=offline needs no network).',
            content=False,
        ),
        "WANDB.PROJECT": Key("clop_det", "Project of the run in Weights & Biases.", content=False),
    },
)
