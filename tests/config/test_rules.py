from __future__ import annotations

import pytest
from detectron2.config import get_cfg

from clop_det.config import add_clop_config
from clop_det.config.described import keys_help
from clop_det.config.reading import read_config
from clop_det.errors import UserError
from clop_det.keys import (
    COMPARISON,
    DETECTION,
    PRETRAINING,
    Key,
    at_least,
    check_rules,
    constrain,
    constraints,
    declare,
    declared,
    value_of,
)

BOTH = [PRETRAINING, DETECTION]
REFUSED = [
    (BOTH, "SEED", "-1", "it must be at least 0. A run is a function of its seed."),
    (BOTH, "SOLVER.MAX_ITER", "0", "at least 1"),
    (BOTH, "SOLVER.WARMUP_ITERS", "-1", "at least 0"),
    (BOTH, "SOLVER.LR_SCHEDULER_NAME", "CosineLR", "Did you mean WarmupCosineLR"),
    (BOTH, "SOLVER.WARMUP_METHOD", "cosine", "one of linear, constant"),
    (BOTH, "SOLVER.PRECISION", "fp8", "one of auto, bf16, fp32"),
    (BOTH, "SOLVER.KEEP_CHECKPOINTS", "0", "at least 1"),
    (BOTH, "PROBE.KNN.K", "[20, 2.5]", "whole number of at least 1"),
    (BOTH, "CLASSIFICATION.UNREADABLE", "skip", "one of fail, replace"),
    (BOTH, "CLASSIFICATION.MAX_UNREADABLE", "1.0", r"lie in \[0, 1\)"),
    (BOTH, "CLASSIFICATION.IMAGE_SIZE", "0", "at least 1"),
    (BOTH, "DATALOADER.NUM_WORKERS", "-1", "at least 0"),
    ([PRETRAINING], "LABELS.FRACTION", "1.5", r"it must lie in \(0, 1\]\."),
    ([PRETRAINING], "LABELS.FRACTION", "0", r"lie in \(0, 1\]"),
    ([PRETRAINING], "LABELS.FRACTION", "nan", r"it must lie in \(0, 1\]"),
    ([PRETRAINING], "LABELS.PER_CLASS", "-1", "at least 0"),
    ([PRETRAINING], "LABELS.IMBALANCE", "0.5", "at least 1"),
    ([PRETRAINING], "LABELS.NOISE", "1.0", r"lie in \[0, 1\)"),
    ([PRETRAINING], "AUGMENT.CROP_SCALE", "[0.5, 0.2]", "low <= high"),
    ([PRETRAINING], "AUGMENT.CROP_SCALE", "[0.5, 1.2]", r"lie in \(0, 1\]"),
    ([PRETRAINING], "AUGMENT.CROP_SCALE", "[0.5]", "two numbers"),
    ([PRETRAINING], "AUGMENT.CROP_RATIO", "[-1.0, 1.0]", "above 0"),
    ([PRETRAINING], "AUGMENT.BLUR_SIGMA", "[0.5, 1.0, 2.0]", "two numbers"),
    ([PRETRAINING], "AUGMENT.BLUR_SIGMA", "[a, b]", "two numbers"),
    ([PRETRAINING], "AUGMENT.HUE", "0.6", r"lie in \[0, 0.5\]"),
    ([*BOTH], "SOLVER.OPTIMIZER", "Adam", "one of SGD, LARS, AdamW. Did you mean AdamW"),
    ([PRETRAINING], "SOLVER.BASE_LR", "0", "above 0"),
    ([PRETRAINING], "SOLVER.MOMENTUM", "-0.1", r"lie in \[0, 1\)"),
    ([PRETRAINING], "SOLVER.WEIGHT_DECAY", "-1", "at least 0"),
    ([PRETRAINING], "SOLVER.WEIGHT_DECAY_BIAS", "-1", "at least 0, or be None"),
    ([PRETRAINING], "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "all", "one of value, norm"),
    ([PRETRAINING], "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "0", "above 0"),
    ([PRETRAINING], "SOLVER.LR_SCALING", "cubic", "one of none, linear, sqrt"),
    ([PRETRAINING], "SOLVER.LR_REFERENCE_BATCH", "0", "at least 1"),
    ([PRETRAINING], "INPUT.FORMAT", "BGR", "it must be RGB"),
    ([PRETRAINING], "COLLAPSE.MIN_RANKME", "-1.0", "at least 0"),
    ([PRETRAINING], "COLLAPSE.MAX_MEAN_NORM", "1.5", r"lie in \(0, 1\]"),
    ([PRETRAINING], "PROJECTOR.OUT_DIM", "0", "at least 1"),
    ([DETECTION], "SOLVER.REFERENCE_WORLD_SIZE", "-1", "at least 0"),
    ([DETECTION], "DATASETS.TRAIN_FRACTION", "nan", r"\(0, 1\]"),
    ([DETECTION], "DATASETS.TRAIN_FRACTION", "0", r"\(0, 1\]"),
    ([DETECTION], "DATASETS.CHECKS.GREY_IMAGE", "ignore", "one of repair, drop, fail"),
    ([DETECTION], "MODEL.ROI_ALIGN", "fast", "one of auto, torchvision, matmul"),
    ([DETECTION], "INPUT.MIN_SIZE_TRAIN", "('a',)", "whole number"),
]


@pytest.mark.parametrize(("stages", "key", "text", "message"), REFUSED)
def test_a_value_against_the_rule_of_its_key_is_refused_where_the_key_counts(
    stages: list[str], key: str, text: str, message: str
) -> None:
    good = ["INPUT.FORMAT", "RGB", "SEED", "0"]
    cfg = read_config("", [*good, key, text])
    for stage in BOTH:
        if stage in stages:
            with pytest.raises(UserError, match=f"^{key} is .*{message}"):
                check_rules(cfg, stage)
        else:
            check_rules(cfg, stage)
    for stage in BOTH:
        check_rules(read_config("", good), stage)


def test_a_key_that_the_config_does_not_have_is_left_alone() -> None:
    check_rules({}, PRETRAINING)
    assert value_of({"A": {"B": 1}}, "A.B", None) == 1
    assert value_of({"A": 1}, "A.B", None) is None


def test_rules_of_detectron2s_keys_name_keys_that_exist() -> None:
    cfg = get_cfg()
    add_clop_config(cfg)
    for item in constraints():
        assert value_of(cfg, item.name, "absent") != "absent", item.name


def test_a_declaration_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clop_det.keys._DECLARED", {})
    monkeypatch.setattr("clop_det.keys._CONSTRAINTS", [])
    declare(PRETRAINING, {"A.B": Key(1, "b", at_least(1))})
    constrain(COMPARISON, {"C": at_least(3)})
    assert declared()["A.B"].module == __name__
    with pytest.raises(ValueError, match="declared twice"):
        declare(PRETRAINING, {"A.B": Key(1, "b")})
    with pytest.raises(ValueError, match="default 0 must be at least 1"):
        declare(PRETRAINING, {"A.C": Key(0, "c", at_least(1))})
    with pytest.raises(ValueError, match="capitals"):
        declare(PRETRAINING, {"a": Key(0, "a")})
    check_rules({"A": {"B": 1}, "C": 0}, PRETRAINING)
    with pytest.raises(UserError, match="C is 0; it must be at least 3"):
        check_rules({"C": 0}, COMPARISON)


@pytest.mark.parametrize("stage", [PRETRAINING, DETECTION, COMPARISON])
def test_help_has_name_default_rule_and_meaning_of_every_key_of_the_stage(stage: str) -> None:
    text = keys_help(stage)
    assert max(map(len, text.splitlines())) <= 120
    words = " ".join(text.split())
    for name, item in declared(stage).items():
        assert f" {name} (" in words
        assert " ".join(item.key.help.split()).rstrip(".") in words
        if item.key.rule is not None:
            assert item.key.rule.text in words
    others = set(declared()) - set(declared(stage))
    assert not [name for name in others if f" {name} (" in words]
