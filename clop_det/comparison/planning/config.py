"""Keys of a comparison's YAML, declared and read as the runs' own are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from clop_det.comparison.names import HEADS, LEAST_SCORE, PAIRED, REDRAW, TESTS
from clop_det.comparison.planning.bases import from_base
from clop_det.config.build import add_keys, register_built_in
from clop_det.config.library import find_config
from clop_det.config.reading import read_with
from clop_det.keys import COMPARISON, Key, Rule, at_least, between, check_rules, declare, each, one_of, whole

declare(
    COMPARISON,
    {
        "OUTPUT_DIR": Key(
            "output/compare",
            "Folder of the comparison: jobs/ holds the run folders, report/ the report.",
            content=False,
        ),
        "COMPARE.NAME": Key("", "Title of the report; empty: the name of the YAML file."),
        "COMPARE.DESCRIPTION": Key(
            "", "One or two sentences for the head of the report: what is asked, on which data.", content=False
        ),
        "COMPARE.INITS": Key(
            ["random", "info_nce", "clop"],
            'Initialisations: "random", the name of a loss, or a mapping with NAME and LOSS (loss to pretrain with, or'
            ' "random"; default: NAME), OPTS ({config key: value} for its pretraining), GRID (False leaves it out of'
            " PRETRAIN.GRID), USES_LABELS (False if the label fraction does not concern it), or CHECKPOINT (path of a"
            ' given checkpoint; then no pretraining) and SOURCE (its format; "": recognised by content). A CHECKPOINT'
            ' with {seed} in its path, "runs/seed{seed}.pth", is another file for each seed. FROM is a checkpoint that'
            " the pretraining with LOSS starts from, instead of random weights. DETECTION_OPTS: {config key: value} for"
            " its fine-tunings alone; not what all rows are judged by.",
        ),
        "COMPARE.INITS_FROM": Key(
            {},
            "Further initialisations, from a ranking: {RANKING: path of the ranking.json of clop-det rank, TOP: how"
            " many of its checkpoints}. Without TOP: all that the ranking does not tell apart from the first. The"
            " report shows their scores against the metric.",
        ),
        "COMPARE.HEADS": Key(
            REDRAW,
            "What the pyramid and heads of every detector start with. redraw: numbers drawn from SEED, the same in all"
            " rows. keep: those of the given detectors; then every initialisation must be a detector's CHECKPOINT.",
            one_of(*HEADS),
        ),
        "COMPARE.BASELINE": Key("random", "Name of the initialisation in INITS that differences are taken against."),
        "COMPARE.LABEL_FRACTIONS": Key([0.1], "Shares of the training labels.", each(between(0, 1, "(]"))),
        "COMPARE.SEEDS": Key(
            [0],
            "One seed sets the split, views and order of every initialisation, so differences are paired.",
            each(whole(0)),
        ),
        "COMPARE.SEQUENTIAL": Key(
            False,
            "Whether seeds are run one after the other, after the third only for initialisations whose verdict is"
            " open. SEEDS are then the most that are run; their order counts.",
        ),
        "COMPARE.TEST": Key(
            PAIRED,
            "How differences are tested. paired: a t test for each, Holm-corrected. dunnett: one spread from all rows"
            " and Dunnett's test against the baseline; finds more with few seeds if the rows spread alike.",
            one_of(*TESTS),
        ),
        "COMPARE.PRETRAIN.CONFIG": Key(
            "", "Pretraining config, relative to the comparison's file (or to the working directory)."
        ),
        "COMPARE.PRETRAIN.OPTS": Key({}, "Config values of every pretraining: {SOLVER.MAX_ITER: 100, ...}."),
        "COMPARE.PRETRAIN.GRID": Key(
            {},
            "Config key -> list of values; every combination is a setting of its own: {SOLVER.BASE_LR: [0.1, 0.3]}.",
        ),
        "COMPARE.DETECTION": Key(
            [],
            "Detection configs, each a mapping with CONFIG and optionally NAME (default: the file's name), OPTS, GRID,"
            " FREEZE (all: the backbone is not trained; a random one has no such row) and SELECT: {BY: data set of"
            " DATASETS.TEST on which the best setting of GRID is chosen, REPORT: data set reported}. Empty: the"
            " comparison ends with the probes of pretraining.",
        ),
        "COMPARE.DEVICE": Key("", 'Device of all runs ("cpu", "cuda"); empty: what their configs say.'),
        "COMPARE.LAUNCH.GPUS_PER_JOB": Key(
            1,
            "GPUs per job; above 1 each pretraining and detection is one torchrun group. Results do not depend on it.",
            at_least(1),
            content=False,
        ),
        "COMPARE.LAUNCH.SLURM": Key(
            {},
            "Parameters of submitit's executor, for --launcher slurm: {timeout_min: 240, slurm_partition: gpu, ...}.",
            content=False,
        ),
        "COMPARE.COST": Key(
            {},
            "Cost of one class label and of one boxed image, {LABEL: 1, BOXED_IMAGE: 20}, in any currency: the report"
            " then shows what the same money buys. Needs LABEL_FRACTIONS and a GRID of DATASETS.TRAIN_FRACTION.",
        ),
        "COMPARE.METRIC": Key("AP", "Metric that the verdict is about: a column of results.csv."),
        "COMPARE.EXAMPLES": Key(4, "Test images drawn per initialisation in the report; 0: none.", at_least(0)),
        "COMPARE.EXAMPLE_SCORE": Key(
            0.0,
            "Detections are drawn from this score on; 0: each detector's own, of its best F1 on the test set.",
            Rule(f"be 0 or lie in [{LEAST_SCORE:g}, 1]", lambda score: score == 0 or LEAST_SCORE <= score <= 1),
            content=False,
        ),
    },
)


def load_compare_config(path: str | Path, overrides: Sequence[str] = ()) -> CfgNode:
    """Read a comparison: defaults, then the file (and its `_BASE_`), then KEY VALUE pairs; frozen.

    Raises:
        UserError: no such file, or as `clop_det.config.reading.read_config`; a value that breaks its rule.
    """
    path = Path(find_config(str(path)))
    cfg = read_with(_defaults, str(path), overrides, base=from_base)
    check_rules(cfg, COMPARISON)
    if not cfg.COMPARE.NAME:
        cfg.COMPARE.NAME = path.stem
    cfg.freeze()
    return cfg


def _defaults(imports: Sequence[str]) -> CfgNode:
    register_built_in()  # before what the imports register, so that a name that is taken is refused there
    cfg: Any = CfgNode()
    add_keys(cfg, (COMPARISON,), imports)
    return cfg
