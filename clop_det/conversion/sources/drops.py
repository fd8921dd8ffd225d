"""Why a tensor that is not part of the backbone may be left out. What no rule names is an error, not a drop."""

from __future__ import annotations

import re

COUNTER = "counter"
TWIN = "momentum twin"
PROJECTOR = "projector"
CLASSIFIER = "classifier"

# In this order: an optimizer's state for a projector is optimizer state, a momentum projector is a momentum twin.
_RULES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("optimizer and trainer state", re.compile(
        r"optimi[sz]ers?(_states?|_state_dict)?|opt|amp|lr_schedulers?|schedulers?|(grad_|fp16_|amp_)?scaler|larc"
        r"|callbacks|loops|trainer|rng_state|hooks", re.IGNORECASE)),
    (TWIN, re.compile(r".*momentum.*|.*_ema|ema|ema_.*|.*target.*|teacher.*|encoder_k|key_encoder")),
    ("queue", re.compile(r".*queue.*|.*memory_bank.*|.*_bank|bank")),
    ("prototypes", re.compile(r".*prototypes?\d*|.*centroids?|clusters?")),
    ("predictor", re.compile(r".*predict(or|ion).*")),
    (PROJECTOR, re.compile(r".*proj(ector|ection|etion|_head|_mlp)?.*|necks?|heads?|mlp(_head)?|g")),
    (CLASSIFIER, re.compile(r".*classifier.*|fc|linear|.*probe.*")),
    ("loss state", re.compile(r"loss|.*_loss|criterion|center")),
    ("metric state", re.compile(r"meters?|.*metrics?|.*accuracy.*")),
    ("input normalisation", re.compile(r"pixel_(mean|std)|data_preprocessor|normali[sz]e(r)?|mean|std")),
    ("detector heads", re.compile(r"proposal_generator|roi_heads|fpn_.*|anchor_generator|sem_seg_head|decoder")),
)  # fmt: skip


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
        if _matches(pattern, parts) or _matches(pattern, name.rsplit(".", 1)[-1]):
            return reason
    return None


def _matches(pattern: re.Pattern[str], dotted: str) -> bool:
    return any(pattern.fullmatch(part) for part in dotted.split("."))
