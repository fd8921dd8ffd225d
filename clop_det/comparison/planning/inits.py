"""Initialisations: random, pretrained here, given, or pretrained here on top of given weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clop_det.comparison.names import KEEP, REDRAW
from clop_det.comparison.planning.values import find, read_flag, read_mapping, read_name, read_opts
from clop_det.conversion.heads import check_has_heads
from clop_det.conversion.sources.catalogue import source_names
from clop_det.errors import UserError
from clop_det.files import sha256_of
from clop_det.keys import nearest

RANDOM = "random"
_SEED = "{seed}"
# What the figures of all rows are measured on and by.
_OF_THE_TEST = ("DATASETS.TEST", "DATASETS.REGISTER", "TEST.COCO_MAX_DETECTIONS")
_KEYS = ("NAME", "LOSS", "OPTS", "GRID", "USES_LABELS", "CHECKPOINT", "SOURCE", "FROM", "DETECTION_OPTS")


@dataclass(frozen=True)
class Init:
    """One way to initialise the detector."""

    name: str
    loss: str = ""
    opts: Mapping[str, Any] = field(default_factory=dict)
    uses_grid: bool = True
    uses_labels: bool = True
    checkpoints: Mapping[int, Path] = field(default_factory=dict)  # seed -> file
    source: str = ""
    starts: Mapping[int, Path] = field(default_factory=dict)  # seed -> what the pretraining starts from
    detection_opts: Mapping[str, Any] = field(default_factory=dict)  # of its fine-tunings

    @property
    def one_file(self) -> bool:
        """Whether one given file serves all of several seeds."""
        return len(self.checkpoints) > 1 and len(set(self.checkpoints.values())) == 1

    @property
    def pretrained(self) -> bool:
        """Whether this comparison pretrains it (not random, not a given checkpoint)."""
        return bool(self.loss)


def check_heads(policy: str, inits: Iterable[Init]) -> None:
    """One policy holds for all rows: under `keep` each must bring a whole detector."""
    inits = list(inits) if policy == KEEP else []
    for init in inits:
        if not init.checkpoints:
            what = "is pretrained here" if init.pretrained else "is random"
            raise UserError(
                f"COMPARE.HEADS is {KEEP}, but the initialisation {init.name} {what} and brings no heads, so the rows"
                f" would not start alike. Set COMPARE.HEADS {REDRAW}, or leave {init.name} out."
            )
    for path in dict.fromkeys(path for init in inits for path in init.checkpoints.values()):
        check_has_heads(path)


def read_init(item: Any, folder: Path, seeds: Sequence[int]) -> Init:
    """One entry of COMPARE.INITS; UserError for what could not run or would be ambiguous."""
    if isinstance(item, str):
        item = {"NAME": item}
    if isinstance(item, Mapping) and "HEADS" in item:
        raise UserError("COMPARE.INITS: HEADS is one rule for all rows, not for one of them. Set COMPARE.HEADS.")
    values = read_mapping(item, _KEYS, "COMPARE.INITS")
    name = read_name(values.get("NAME"), "COMPARE.INITS")
    where = f"COMPARE.INITS {name}"
    checkpoint = values.get("CHECKPOINT", "")
    drawn = RANDOM in (name, values.get("LOSS"))
    if checkpoint and (drawn or "LOSS" in values or values.get("OPTS") or "FROM" in values):
        raise UserError(f"{where} names a CHECKPOINT: it can have no LOSS, OPTS or FROM and cannot be called random.")
    ignored = [key for key in ("LOSS", "OPTS", "SOURCE", "FROM") if drawn and values.get(key, RANDOM) != RANDOM]
    if ignored:
        raise UserError(f"{where} is not pretrained and has no use for {', '.join(ignored)}. Remove it, or rename it.")
    if "SOURCE" in values and not checkpoint:
        raise UserError(f"{where} names a SOURCE, which is the format of a CHECKPOINT, but no CHECKPOINT. Remove it.")
    detection_opts = read_opts(values.get("DETECTION_OPTS", {}), f"{where} DETECTION_OPTS")
    judging = [key for key in _OF_THE_TEST if key in detection_opts]
    if judging:
        raise UserError(
            f"{where} DETECTION_OPTS sets {judging[0]}, by which all rows are judged. Set it in OPTS of"
            " COMPARE.DETECTION."
        )
    if drawn or checkpoint:
        files = _checkpoints(str(checkpoint), folder, seeds, where) if checkpoint else {}
        source = str(values.get("SOURCE", ""))
        if source and source not in source_names():
            raise UserError(
                f'{where}: unknown SOURCE "{source}".{nearest(source, source_names())} Without'
                " SOURCE the file is recognised by its content."
            )
        return Init(name, "", {}, False, False, checkpoints=files, source=source, detection_opts=detection_opts)
    return Init(
        name,
        loss=str(values.get("LOSS", name)),
        opts=read_opts(values.get("OPTS", {}), f"{where} OPTS"),
        uses_grid=read_flag(values, "GRID", where),
        uses_labels=read_flag(values, "USES_LABELS", where),
        starts=_checkpoints(str(values["FROM"]), folder, seeds, where) if values.get("FROM") else {},
        detection_opts=detection_opts,
    )


def _checkpoints(pattern: str, folder: Path, seeds: Sequence[int], where: str) -> dict[int, Path]:
    """The file of each seed; "{seed}" in the pattern stands for the seed."""
    if _SEED not in pattern:
        path = find(pattern, folder)
        return dict.fromkeys(seeds, path)
    files = {seed: find(pattern.replace(_SEED, str(seed)), folder) for seed in seeds}
    known: dict[str, int] = {}
    for seed, path in files.items():
        same = known.setdefault(sha256_of(path), seed)
        if same != seed:
            raise UserError(
                f"{where}: {files[same]} and {path} have the same content, so the seeds {same} and {seed} would be one"
                " pretraining counted twice. Give each seed its own file, or one CHECKPOINT without {seed}."
            )
    return files
