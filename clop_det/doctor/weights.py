"""Checks of the weights against the configuration: the rules of training (`clop_det.conversion`), as findings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clop_det.backbones.registry import family_of_config
from clop_det.conversion.compatibility import check_carried
from clop_det.conversion.conventions import (
    FITS,
    FOLLOWS,
    Comparison,
    compare_with_weights,
    conventions_of_family,
    get_key,
)
from clop_det.conversion.loading import DetectorCheckpointer, backbone_keys
from clop_det.conversion.weights import Weights
from clop_det.conversion.weights import read_weights as read_file
from clop_det.detection.model import MODEL_CHECKS, build_detector
from clop_det.doctor.findings import ERROR, OK, WARN, Finding, Situation


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
    weights = situation.weights = read_file(Path(name))
    if weights.others:
        what = f"{name} has {weights.others}'s names: Detectron2 converts it, little of it is checked"
        yield Finding("weights", WARN, what)
        return
    if not weights.converted:
        seen = f"{weights.source.source}: {weights.source.reason}" if weights.source else weights.unknown
        yield Finding(
            "weights",
            ERROR,
            f"{name} is not in Detectron2's naming ({seen})",
            f"clop-det convert {name} converted.pth",
        )
    yield from _network(weights)
    if weights.converted:
        origin = ", ".join(
            f"{key} {weights.provenance[key]}"
            for key in ("source_format", "loss", "label_fraction", "seed")
            if weights.provenance.get(key) is not None
        )
        network = weights.network.architecture.name if weights.network else "network"
        yield Finding("weights", OK, f"{name}: {network}{f' ({origin})' if origin else ''}, undamaged")
        if weights.provenance.get("verified") is False:
            yield Finding("proof", WARN, "converted with --no-verify", "convert again without it")


def _network(weights: Weights) -> Iterator[Finding]:
    family, network = weights.family, weights.network
    if family is None:
        return
    if weights.without_stem:
        what = "the weights were converted without their stem: the detector's stem starts random"
        yield Finding("stem", WARN, what, family.stem_remedy)
    elif network is None:
        yield Finding("network", WARN, weights.unknown, "check by hand that the backbone is the weights'")
    elif network.misfit:
        yield Finding(
            "stem",
            ERROR,
            f"the weights have a {network.misfit}: it would stay random",
            f"{family.stem_remedy}, or convert with --allow-stem-reinit and live with it",
        )
    elif network.stem:
        yield Finding("stem", OK, f"{network.stem}, as the detector's")


def check_conventions(situation: Situation) -> Iterator[Finding]:
    """How images are fed, and what else follows the weights."""
    cfg, weights = situation.cfg, situation.weights
    if weights is not None and not weights.others:
        settings = conventions_of_family(weights.family)
        if not weights.says_conventions:
            values = ", ".join(f"{setting.key} {_shown(get_key(cfg, setting.key))}" for setting in settings)
            yield Finding(
                "conventions",
                WARN,
                f"{weights.path} does not say how its images were fed, so {values} cannot be checked",
                "convert the source with clop-det convert",
            )
        assumed = " (assumed when they were converted)" if weights.provenance.get("conventions_known") is False else ""
        for item in compare_with_weights(cfg, weights.provenance):
            if not item.architecture:
                yield _convention(item, assumed)
    if _mean_is_reversed(situation):
        yield Finding(
            "pixel mean",
            WARN,
            f"INPUT.FORMAT is {cfg.INPUT.FORMAT}, but PIXEL_MEAN {list(cfg.MODEL.PIXEL_MEAN)} is in the other order",
            f"set MODEL.PIXEL_MEAN {list(reversed(cfg.MODEL.PIXEL_MEAN))}",
        )


def _convention(item: Comparison, assumed: str) -> Finding:
    name, key, ours, theirs = item.setting.label, item.setting.key, item.ours, item.theirs
    if item.verdict == FITS:
        return Finding(name, OK, f"{key} {ours}, as the weights'{assumed}")
    if item.verdict == FOLLOWS:
        what = (
            f"{key} is Detectron2's default {ours}, the weights want {theirs}; clop-det train will follow the"
            " weights, other programs will not"
        )
        return Finding(name, WARN, what, f"set {key} {theirs}")
    return Finding(name, ERROR, f"{key} is {ours}, the weights want {theirs}", f"set {key} {theirs}")


def _shown(value: object) -> object:
    return list(value) if isinstance(value, list | tuple) else value


def _mean_is_reversed(situation: Situation) -> bool:
    """Whether ImageNet's mean, which falls from red to blue, stands in the order that the format does not have."""
    cfg, weights = situation.cfg, situation.weights
    if weights is not None and weights.provenance.get("pixel_mean") is not None:
        return False
    first, _, last = (float(value) for value in cfg.MODEL.PIXEL_MEAN)
    return first != last and (first > last) != (cfg.INPUT.FORMAT == "RGB") and abs(abs(first - last) - 20.145) < 0.5


def check_architecture(situation: Situation) -> Iterator[Finding]:
    """Which network it is."""
    cfg, weights = situation.cfg, situation.weights
    if weights is None:
        return
    check_carried(cfg, weights)
    for item in compare_with_weights(cfg, weights.provenance):
        if not item.architecture:
            continue
        name, key = item.setting.label, item.setting.key
        if item.verdict == FITS:
            yield Finding(name, OK, f"{key} {item.ours}, as the weights'")
        else:
            what = f"{key} is {item.ours}, the weights are {weights.provenance.get('arch')}"
            yield Finding(name, ERROR, what, f"set {key} {item.theirs}")


def check_norm(situation: Situation) -> Iterator[Finding]:
    """Normalisation and frozen layers."""
    if situation.refused & {"frozen layers", "backbone"}:
        return
    cfg, family = situation.cfg, family_of_config(situation.cfg)
    if family is not None and family.norm_key and family.has_batch_norm(cfg):
        yield _norm(situation, family.norm_key)
    frozen = int(cfg.MODEL.BACKBONE.FREEZE_AT)
    if frozen > 0:
        yield Finding(
            "frozen layers",
            WARN,
            f"MODEL.BACKBONE.FREEZE_AT {frozen} keeps the first layers as pretrained; transfer recipes tune all",
            "set MODEL.BACKBONE.FREEZE_AT 0",
        )
    else:
        yield Finding("frozen layers", OK, "none (MODEL.BACKBONE.FREEZE_AT 0)")


def _norm(situation: Situation, key: str) -> Finding:
    cfg = situation.cfg
    norm = str(get_key(cfg, key))
    local = cfg.SOLVER.IMS_PER_BATCH / situation.processes
    loads = bool(cfg.MODEL.WEIGHTS)
    statistics = norm in ("BN", "SyncBN", "naiveSyncBN", "FrozenBN")
    if not statistics and loads:
        return Finding(
            "norm",
            ERROR,
            f"{key} {norm!r} has no place for the weights' BatchNorm statistics",
            f"set {key} BN, SyncBN or naiveSyncBN",
        )
    if norm == "FrozenBN":
        # Networks pretrained elsewhere keep statistics of other images; every transfer recipe tunes them.
        return Finding(
            "norm",
            WARN,
            f"{key} FrozenBN keeps the statistics of the pretraining images",
            f"set {key} SyncBN (BN on one process)",
        )
    if norm == "BN" and situation.processes > 1 and local < 8:
        remedy = "SyncBN or naiveSyncBN" if cfg.MODEL.DEVICE.startswith("cuda") else "naiveSyncBN"
        return Finding("norm", WARN, f"BN over {local:g} images a process", f"set {key} {remedy}")
    return Finding("norm", OK, f"{key} {norm}")


def check_loading(situation: Situation) -> Iterator[Finding]:
    """How many of the model's backbone tensors the file gives, by loading it into the model as training will."""
    weights = situation.weights
    if weights is None or situation.refused & {name for name, _ in MODEL_CHECKS}:
        return
    cfg = situation.cfg.clone()
    cfg.MODEL.DEVICE, cfg.SOLVER.AMP.ENABLED = "cpu", False  # names and shapes are the same on every device
    model = build_detector(cfg)
    family = weights.family or family_of_config(cfg)
    keys = backbone_keys(model, family) if family else []
    DetectorCheckpointer(model).load(str(weights.path))
    if not keys:
        what = "the detector carries no network of a registered family: what loads is not checked"
        yield Finding("tensors", WARN, what, "look into the log for the tensors that were not loaded")
        return
    # The stem may be missing on purpose, which has a line of its own.
    expected = "all but the stem's" if weights.without_stem else f"{len(keys)} of {len(keys)}"
    yield Finding("tensors", OK, f"{expected} backbone tensors will load")
