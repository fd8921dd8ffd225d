"""Why a tensor that is not part of the backbone may be left out. What no rule names is an error, not a drop."""

from __future__ import annotations

import re

COUNTER = "counter"
NUMBER = "single number"
BEHIND = "head behind the network"
TWIN = "momentum twin"
PROJECTOR = "projector"
CLASSIFIER = "classifier"

# In this order: an optimizer's state for a projector is optimizer state, a momentum projector is a momentum twin.
_RULES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("optimizer and trainer state", re.compile(
        r"optimi?[sz]?(er)?s?(_states?|_state_dict|_dict)?|opt|amp|lr_schedulers?|schedulers?|(grad_|fp16_|amp_)?scaler|larc"
        r"|callbacks|loops|trainer|hooks|exp_avg(_sq)?|max_exp_avg_sq|momentum_buffer", re.IGNORECASE)),
    ("random state", re.compile(r".*rng_?states?.*|rng|.*random_states?|.*generator_states?", re.IGNORECASE)),
    ("network before averaging", re.compile(r"current_model_state")),
    (TWIN, re.compile(
        r".*momentum.*|.*_ema|ema|ema_.*|.*target.*|teacher.*|encoder_k|key_encoder|.*averag.*|.*_swa|swa(_.*)?|shadow")),
    ("queue", re.compile(r".*queue.*|.*memory_bank.*|.*_bank|bank|contrast")),
    ("prototypes", re.compile(r".*prototypes?\d*|.*centroids?|clusters?")),
    ("predictor", re.compile(r".*predict(or|ion).*")),
    (PROJECTOR, re.compile(r".*proj(ector|ection|etion|_head|_mlp)?.*|necks?|heads?|mlp(_head)?|g"
        r"|value_transform")),
    (CLASSIFIER, re.compile(r".*classifier.*|.*_classif|fc|.*linear|.*probe.*|logits?|(?!roi).*_head")),
    ("mask token", re.compile(r"mask_token")),
    ("decoder of the pretraining", re.compile(r"decoder_.*")),
    ("pooler", re.compile(r"pooler")),
    ("constant of the network", re.compile(r"relative_position_index|attn_mask|periods|bias_mask")),
    ("loss state", re.compile(r"loss|.*_loss|criterion|center")),
    ("metric state", re.compile(r"meters?|.*metrics?|.*accuracy.*")),
    ("input normalisation", re.compile(r"pixel_(mean|std)|data_preprocessor|normali[sz]e(r)?|mean|std")),
    ("detector heads", re.compile(
        r"proposal_generator|roi_heads|rpn(_head)?|.*fpn|fpn_.*|simfp_\d+|top_block|map_norms"
        r"|anchor_generator|sem_seg_head|decoder")),
)  # fmt: skip


# Counts of steps and the like; the last part of a name says it.
_COUNTS = re.compile(r"n_averaged|num_updates|(global_|num_)?steps?|epochs?|iter(ation)?s?")

# The networks that `--network` chooses between, by a part of their prefix.
NETWORKS: dict[str, re.Pattern[str]] = {
    "teacher": re.compile(r".*teacher.*|.*target.*|.*momentum.*|encoder_k|key_encoder"),
    "student": re.compile(r".*student.*|.*online.*|encoder_q|base_encoder|current_model_state"),
    "ema": re.compile(r"(.*_)?ema(_.*)?|.*averag.*|(.*_)?swa(_.*)?|shadow"),
}


def is_network(kind: str, prefix: str) -> bool:
    """Whether a prefix names a network of that kind (see `NETWORKS`); the student is also what no twin's name says."""
    return _matches(NETWORKS[kind], prefix) or (kind == "student" and not is_twin(prefix))


def is_counter(name: str) -> bool:
    """Whether `name` is BatchNorm's count of batches, which Detectron2 does not keep."""
    return name.rsplit(".", 1)[-1] == "num_batches_tracked"


def is_twin(prefix: str) -> bool:
    """Whether a prefix names a momentum twin (MoCo's key encoder, BYOL's target, a teacher, an average)."""
    return _matches(dict(_RULES)[TWIN], prefix)


def drop_reason(name: str) -> str | None:
    """Why the tensor `name`, known not to be in the backbone, is not wanted; None if no rule knows it."""
    if is_counter(name):
        return COUNTER
    # A bare name, such as `queue`, is judged whole; otherwise the last part (`weight`) says nothing.
    parts = name.rsplit(".", 1)[0] if "." in name else name
    for reason, pattern in _RULES:
        if reason != _RULES[0][0] and _COUNTS.fullmatch(name.rsplit(".", 1)[-1]):
            return COUNTER  # but for an optimizer's
        if _matches(pattern, parts) or _matches(pattern, name.rsplit(".", 1)[-1]):
            return reason
    return None


def _matches(pattern: re.Pattern[str], dotted: str) -> bool:
    return any(pattern.fullmatch(part) for part in dotted.split("."))
