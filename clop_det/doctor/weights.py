"""Checks of the weights against the configuration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from detectron2.config import get_cfg
from torch import Tensor

from clop_det.checkpoints.loading import backbone_keys
from clop_det.checkpoints.reading import read_checkpoint
from clop_det.checkpoints.saving import SafeCheckpointer
from clop_det.conversion.compatibility import contradictions, conventions_known
from clop_det.conversion.contents import flatten
from clop_det.conversion.conventions import ARCHITECTURE_KEYS, CONVENTION_KEYS, describe, get_key, same
from clop_det.conversion.identify import identify
from clop_det.conversion.naming import has_caffe2_names, is_torchvision_name
from clop_det.conversion.sources import find_roots, recognise
from clop_det.detection.model import MODEL_CHECKS, build_detector
from clop_det.doctor.findings import ERROR, OK, WARN, Finding, Situation
from clop_det.errors import UserError

_CONVENTION_NAMES = {
    "INPUT.FORMAT": "channel order",
    "MODEL.PIXEL_MEAN": "pixel mean",
    "MODEL.PIXEL_STD": "pixel std",
    "MODEL.RESNETS.STRIDE_IN_1X1": "stride",
}
_ARCHITECTURE_NAMES = {
    "MODEL.RESNETS.DEPTH": "depth",
    "MODEL.RESNETS.RES2_OUT_CHANNELS": "width of res2",
    "MODEL.RESNETS.WIDTH_PER_GROUP": "width of a group",
    "MODEL.RESNETS.NUM_GROUPS": "groups",
}


def read_weights(situation: Situation) -> Iterator[Finding]:
    """Read MODEL.WEIGHTS into the situation; the other checks build on it."""
    name = str(situation.cfg.MODEL.WEIGHTS)
    if not name:
        yield Finding("weights", OK, "MODEL.WEIGHTS is empty: random initialisation")
        return
    if "://" in name:
        yield Finding("weights", WARN, f"{name} is not a local file and is not checked", "download it first")
        return
    if "weights" in situation.refused:
        return
    situation.weights = Path(name)
    contents = situation.contents = flatten(read_checkpoint(situation.weights), situation.weights)
    if has_caffe2_names(contents.tensors):
        yield Finding("weights", WARN, f"{name} has Caffe2's names: Detectron2 converts it, little of it is checked")
        return
    situation.provenance = dict(contents.provenance)
    roots = [root for root in find_roots(contents.tensors) if root.layout == "detectron2"]
    converted = bool(roots)
    if converted:
        state = {inner: contents.tensors[file] for file, inner in roots[0].names.items() if is_torchvision_name(inner)}
    else:
        found = recognise(contents)
        state = found.state
        yield Finding(
            "weights",
            ERROR,
            f"{name} is not in Detectron2's naming ({found.source}: {found.reason})",
            f"python tools/convert_checkpoint.py {name} converted.pth",
        )
    yield from _identify(situation, state)
    if converted:
        origin = ", ".join(
            f"{key} {situation.provenance[key]}"
            for key in ("source_format", "loss", "label_fraction", "seed")
            if situation.provenance.get(key) is not None
        )
        network = situation.architecture.name if situation.architecture else "network"
        yield Finding("weights", OK, f"{name}: {network}{f' ({origin})' if origin else ''}, undamaged")
        if situation.provenance.get("verified") is False:
            yield Finding("proof", WARN, "converted with --no-verify", "convert again without it")


def _identify(situation: Situation, state: dict[str, Tensor]) -> Iterator[Finding]:
    if situation.provenance.get("stem_reinitialised"):
        yield Finding(
            "stem",
            WARN,
            "the weights were converted without their 3x3 stem: the detector's stem starts random",
            "pretrain with ENCODER.STEM imagenet",
        )
        return
    try:
        network = identify(state)
    except UserError as error:
        yield Finding("network", WARN, str(error), "check by hand that the backbone is the weights'")
        return
    situation.architecture = network.architecture
    situation.provenance.update(describe(network.architecture))
    if network.stem == "cifar":
        yield Finding(
            "stem",
            ERROR,
            "the weights have a 3x3 CIFAR stem; Detectron2's is 7x7 and would stay random",
            "pretrain with ENCODER.STEM imagenet, or convert with --allow-stem-reinit and live with it",
        )
    else:
        yield Finding("stem", OK, "7x7, as Detectron2's")


def check_conventions(situation: Situation) -> Iterator[Finding]:
    """Channel order, mean and std, stride placement."""
    cfg = situation.cfg
    contents = situation.contents
    if contents is not None and not conventions_known(situation.provenance) and not has_caffe2_names(contents.tensors):
        yield Finding(
            "conventions",
            WARN,
            f"{situation.weights} does not say how its images were fed, so INPUT.FORMAT {cfg.INPUT.FORMAT}, PIXEL_MEAN"
            f" {list(cfg.MODEL.PIXEL_MEAN)}, PIXEL_STD {list(cfg.MODEL.PIXEL_STD)} and STRIDE_IN_1X1"
            f" {cfg.MODEL.RESNETS.STRIDE_IN_1X1} cannot be checked",
            "convert the source with tools/convert_checkpoint.py",
        )
    wrong = contradictions(cfg, situation.provenance, CONVENTION_KEYS)
    assumed = " (assumed when they were converted)" if situation.provenance.get("conventions_known") is False else ""
    defaults = get_cfg()
    for key, name in _CONVENTION_NAMES.items():
        if key not in wrong:
            if situation.provenance.get(CONVENTION_KEYS[key]) is not None:
                yield Finding(name, OK, f"{key} {get_key(cfg, key)}, as the weights'{assumed}")
            continue
        ours, theirs = wrong[key]
        if same(ours, get_key(defaults, key)):
            yield Finding(
                name,
                WARN,
                f"{key} is Detectron2's default {ours}, the weights want {theirs}; tools/train_net.py will follow the"
                " weights, other programs will not",
                f"set {key} {theirs}",
            )
        else:
            yield Finding(name, ERROR, f"{key} is {ours}, the weights want {theirs}", f"set {key} {theirs}")
    if _mean_is_reversed(situation):
        yield Finding(
            "pixel mean",
            WARN,
            f"INPUT.FORMAT is {cfg.INPUT.FORMAT}, but PIXEL_MEAN {list(cfg.MODEL.PIXEL_MEAN)} is in the other order",
            f"set MODEL.PIXEL_MEAN {list(reversed(cfg.MODEL.PIXEL_MEAN))}",
        )


def _mean_is_reversed(situation: Situation) -> bool:
    """Whether ImageNet's mean, which falls from red to blue, stands in the order that the format does not have."""
    cfg = situation.cfg
    if situation.provenance.get("pixel_mean") is not None:
        return False
    first, _, last = (float(value) for value in cfg.MODEL.PIXEL_MEAN)
    return first != last and (first > last) != (cfg.INPUT.FORMAT == "RGB") and abs(abs(first - last) - 20.145) < 0.5


def check_architecture(situation: Situation) -> Iterator[Finding]:
    """Depth, widths, groups."""
    cfg = situation.cfg
    wrong = contradictions(cfg, situation.provenance, ARCHITECTURE_KEYS)
    for key, name in _ARCHITECTURE_NAMES.items():
        if key in wrong:
            ours, theirs = wrong[key]
            yield Finding(
                name,
                ERROR,
                f"{key} is {ours}, the weights are {situation.provenance.get('arch')}",
                f"set {key} {theirs}",
            )
        elif situation.architecture is not None:
            yield Finding(name, OK, f"{key} {get_key(cfg, key)}, as the weights'")


def check_norm(situation: Situation) -> Iterator[Finding]:
    """Normalisation and frozen layers."""
    if "frozen layers" in situation.refused:
        return
    cfg = situation.cfg
    norm, frozen = str(cfg.MODEL.RESNETS.NORM), int(cfg.MODEL.BACKBONE.FREEZE_AT)
    local = cfg.SOLVER.IMS_PER_BATCH / situation.processes
    loads = bool(cfg.MODEL.WEIGHTS)
    statistics = norm in ("BN", "SyncBN", "naiveSyncBN", "FrozenBN")
    if not statistics and loads:
        yield Finding(
            "norm",
            ERROR,
            f"MODEL.RESNETS.NORM {norm!r} has no place for the weights' BatchNorm statistics",
            "set MODEL.RESNETS.NORM BN, SyncBN or naiveSyncBN",
        )
    elif norm == "FrozenBN":
        # Networks pretrained elsewhere keep statistics of other images; every transfer recipe tunes them.
        yield Finding(
            "norm",
            WARN,
            "MODEL.RESNETS.NORM FrozenBN keeps the statistics of the pretraining images",
            "set MODEL.RESNETS.NORM SyncBN (BN on one process)",
        )
    elif norm == "BN" and situation.processes > 1 and local < 8:
        remedy = "SyncBN or naiveSyncBN" if cfg.MODEL.DEVICE.startswith("cuda") else "naiveSyncBN"
        yield Finding("norm", WARN, f"BN over {local:g} images a process", f"set MODEL.RESNETS.NORM {remedy}")
    else:
        yield Finding("norm", OK, f"MODEL.RESNETS.NORM {norm}")
    if frozen > 0:
        yield Finding(
            "frozen layers",
            WARN,
            f"MODEL.BACKBONE.FREEZE_AT {frozen} keeps the first layers as pretrained; transfer recipes tune all",
            "set MODEL.BACKBONE.FREEZE_AT 0",
        )
    else:
        yield Finding("frozen layers", OK, "none (MODEL.BACKBONE.FREEZE_AT 0)")


def check_loading(situation: Situation) -> Iterator[Finding]:
    """How many of the model's backbone tensors the file gives, by loading it into the model as training will."""
    if situation.contents is None or situation.refused & {name for name, _ in MODEL_CHECKS}:
        return
    cfg = situation.cfg.clone()
    cfg.MODEL.DEVICE, cfg.SOLVER.AMP.ENABLED = "cpu", False  # names and shapes are the same on every device
    model = build_detector(cfg)
    keys = backbone_keys(model)
    SafeCheckpointer(model).load(str(situation.weights))
    # The stem may be missing on purpose, which has a line of its own.
    expected = "all but the stem's" if situation.provenance.get("stem_reinitialised") else f"{len(keys)} of {len(keys)}"
    yield Finding("tensors", OK, f"{expected} backbone tensors will load")
