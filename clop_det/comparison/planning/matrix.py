"""The matrix as data: initialisations, grids, detection configs, checked before anything runs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode as CN

from clop_det.config.files import flatten
from clop_det.config.imports import KEY as IMPORTS
from clop_det.config.library import library
from clop_det.conversion.sources.catalogue import source_names
from clop_det.errors import UserError
from clop_det.keys import nearest

Point = tuple[tuple[str, Any], ...]  # one combination of a grid: ((config key, value), ...)

RANDOM = "random"
# The comparison sets these itself; an override would break the pairing or the run folders.
OWNED_KEYS = ("OUTPUT_DIR", "SEED", "MODEL.WEIGHTS")
# Where the matrix says what a row is called by, and with what.
_SAID_ELSEWHERE = {"LABELS.FRACTION": "COMPARE.LABEL_FRACTIONS", "LOSS.NAME": "LOSS of an entry of COMPARE.INITS"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_INIT_KEYS = ("NAME", "LOSS", "OPTS", "GRID", "USES_LABELS", "CHECKPOINT", "SOURCE", "DETECTION_OPTS")
_DETECTION_KEYS = ("NAME", "CONFIG", "OPTS", "GRID", "SELECT")


@dataclass(frozen=True)
class Init:
    """One way to initialise the detector."""

    name: str
    loss: str = ""
    opts: Mapping[str, Any] = field(default_factory=dict)
    uses_grid: bool = True
    uses_labels: bool = True
    checkpoint: Path | None = None
    source: str = ""
    detection_opts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pretrained(self) -> bool:
        """Whether this comparison pretrains it (not random, not a given checkpoint)."""
        return bool(self.loss)


@dataclass(frozen=True)
class Detection:
    """One detection config with its grid of fine-tuning settings."""

    name: str
    config: Path
    opts: Mapping[str, Any] = field(default_factory=dict)
    grid: tuple[Point, ...] = ((),)
    select_by: str = ""
    report_on: str = ""


@dataclass(frozen=True)
class Matrix:
    """A checked comparison; see `comparison.planning.config` for the meaning of each field."""

    name: str
    description: str
    output: Path
    inits: tuple[Init, ...]
    baseline: str
    fractions: tuple[float, ...]
    seeds: tuple[int, ...]
    pretrain_config: Path | None
    pretrain_opts: Mapping[str, Any]
    pretrain_grid: tuple[Point, ...]
    detections: tuple[Detection, ...]
    metric: str
    examples: int
    example_score: float
    imports: tuple[str, ...] = ()
    gpus: int = 1  # processes of a job


def read_matrix(cfg: CN, folder: Path) -> Matrix:
    """Check a comparison config; paths are looked up in `folder` (of the YAML file), then in the working directory.

    Raises:
        UserError: anything in the matrix that could not run or would be ambiguous.
    """
    node = cfg.COMPARE
    inits = tuple(_read_init(item, folder) for item in _some(node.INITS, "COMPARE.INITS"))
    _unique([init.name for init in inits], "COMPARE.INITS")
    pretrain_grid = _grid(node.PRETRAIN.GRID, "COMPARE.PRETRAIN.GRID")
    for init in inits:
        _apart(
            init.opts, pretrain_grid if init.uses_grid else (), f"COMPARE.INITS {init.name}", "COMPARE.PRETRAIN.GRID"
        )
    names = [init.name for init in inits]
    if node.BASELINE not in names:
        raise UserError(
            f'COMPARE.BASELINE "{node.BASELINE}" is not in the matrix ({", ".join(names)}).'
            f"{nearest(node.BASELINE, names)}"
        )
    needs_pretraining = any(init.pretrained for init in inits)
    if needs_pretraining and not node.PRETRAIN.CONFIG:
        raise UserError("COMPARE.PRETRAIN.CONFIG is empty: name the pretraining config of the losses in COMPARE.INITS.")
    device = {"MODEL.DEVICE": str(node.DEVICE)} if node.DEVICE else {}
    detections = tuple(_read_detection(item, folder, device) for item in node.DETECTION)
    _unique([detection.name for detection in detections], "COMPARE.DETECTION")
    for init, detection in itertools.product(inits, detections):
        where = f"COMPARE.INITS {init.name} DETECTION_OPTS"
        _apart(init.detection_opts, detection.grid, where, f"the GRID of COMPARE.DETECTION {detection.name}")
    if not detections and not needs_pretraining:
        raise UserError("nothing to run: no initialisation is pretrained and COMPARE.DETECTION is empty.")
    return Matrix(
        name=str(node.NAME),
        description=str(node.DESCRIPTION),
        output=Path(cfg.OUTPUT_DIR),
        inits=inits,
        baseline=node.BASELINE,
        fractions=_different(map(float, node.LABEL_FRACTIONS), "COMPARE.LABEL_FRACTIONS"),
        seeds=_different(node.SEEDS, "COMPARE.SEEDS"),
        pretrain_config=find(node.PRETRAIN.CONFIG, folder) if needs_pretraining else None,
        pretrain_opts={**device, **_opts(node.PRETRAIN.OPTS, "COMPARE.PRETRAIN.OPTS")},
        pretrain_grid=pretrain_grid,
        detections=detections,
        metric=str(node.METRIC),
        examples=int(node.EXAMPLES),
        example_score=float(node.EXAMPLE_SCORE),
        imports=tuple(cfg.IMPORTS),
        gpus=int(node.LAUNCH.GPUS_PER_JOB),
    )


def find(name: str, folder: Path) -> Path:
    """The file `name`: beside the comparison's file, in the working directory, or among the shipped configs.

    Raises:
        UserError: it is in none of them; the first two places and the nearest file there are named.
    """
    candidates = [folder / Path(name).expanduser(), Path(name).expanduser()]
    for candidate in (*candidates, library() / name):
        if candidate.is_file():
            return candidate
    beside = candidates[0].parent
    close = nearest(candidates[0].name, [item.name for item in beside.iterdir()]) if beside.is_dir() else ""
    raise UserError(f'no file "{name}": looked for {candidates[0]} and {candidates[1]}.{close}')


def _read_init(item: Any, folder: Path) -> Init:
    if isinstance(item, str):
        item = {"NAME": item}
    values = _mapping(item, _INIT_KEYS, "COMPARE.INITS")
    name = _name(values.get("NAME"), "COMPARE.INITS")
    where = f"COMPARE.INITS {name}"
    checkpoint = values.get("CHECKPOINT", "")
    if checkpoint and (name == RANDOM or "LOSS" in values or values.get("OPTS")):
        raise UserError(f"{where} names a CHECKPOINT: it can have no LOSS, no OPTS and cannot be called random.")
    ignored = [key for key in ("LOSS", "OPTS", "SOURCE") if name == RANDOM and key in values]
    if ignored:
        raise UserError(f"{where} is not pretrained and has no use for {', '.join(ignored)}. Remove it, or rename it.")
    detection_opts = _opts(values.get("DETECTION_OPTS", {}), f"{where} DETECTION_OPTS")
    if name == RANDOM or checkpoint:
        path = find(str(checkpoint), folder) if checkpoint else None
        source = str(values.get("SOURCE", ""))
        if source and source not in source_names():
            raise UserError(
                f'{where}: unknown SOURCE "{source}".{nearest(source, source_names())} Without'
                " SOURCE the file is recognised by its content."
            )
        return Init(
            name, uses_grid=False, uses_labels=False, checkpoint=path, source=source, detection_opts=detection_opts
        )
    return Init(
        name,
        loss=str(values.get("LOSS", name)),
        opts=_opts(values.get("OPTS", {}), f"{where} OPTS"),
        uses_grid=_flag(values, "GRID", where),
        uses_labels=_flag(values, "USES_LABELS", where),
        detection_opts=detection_opts,
    )


def _read_detection(item: Any, folder: Path, device: Mapping[str, str]) -> Detection:
    if isinstance(item, str):
        item = {"CONFIG": item}
    values = _mapping(item, _DETECTION_KEYS, "COMPARE.DETECTION")
    if not values.get("CONFIG"):
        raise UserError("an entry of COMPARE.DETECTION has no CONFIG.")
    path = find(str(values["CONFIG"]), folder)
    name = _name(values.get("NAME", path.stem), "COMPARE.DETECTION")
    select = _mapping(values.get("SELECT", {}), ("BY", "REPORT"), f"COMPARE.DETECTION {name} SELECT")
    if bool(select.get("BY")) != bool(select.get("REPORT")):
        raise UserError(f"COMPARE.DETECTION {name} SELECT needs both BY and REPORT: two data sets of DATASETS.TEST.")
    if select.get("BY") and select["BY"] == select["REPORT"]:
        raise UserError(f"COMPARE.DETECTION {name} SELECT chooses on the set it reports ({select['BY']}): use another.")
    opts = _opts(values.get("OPTS", {}), f"COMPARE.DETECTION {name} OPTS")
    grid = _grid(values.get("GRID", {}), f"COMPARE.DETECTION {name} GRID")
    _apart(opts, grid, f"COMPARE.DETECTION {name} OPTS", "its GRID")
    return Detection(
        name,
        path,
        {**device, **opts},
        grid,
        str(select.get("BY", "")),
        str(select.get("REPORT", "")),
    )


def _grid(node: Any, where: str) -> tuple[Point, ...]:
    axes = _opts(node, where)
    for key, values in axes.items():
        if not isinstance(values, (list, tuple)) or not values:
            raise UserError(f"{where} {key} must be a list of values, not {values!r}.")
        _unique([repr(value) for value in values], f"{where} {key}")
    return tuple(
        tuple(zip(axes, combination, strict=True)) for combination in itertools.product(*(axes[key] for key in axes))
    )


def _apart(opts: Mapping[str, Any], grid: Sequence[Point], where: str, grid_name: str) -> None:
    """Refuse a key that both set: the grid's value would be in the row's name and the other one in the run."""
    both = [key for key, _ in (grid[0] if grid else ()) if key in opts]
    if both:
        raise UserError(f"{where} sets {both[0]}, which {grid_name} varies. Set it in one of the two.")


def _opts(node: Any, where: str) -> dict[str, Any]:
    if not isinstance(node, Mapping):
        raise UserError(f"{where} must be a mapping of config keys to values, not {node!r}.")
    opts = dict(flatten(node))
    for key in opts:
        if key == IMPORTS:
            raise UserError(f"{where} sets IMPORTS. Name the modules beside COMPARE, or in the config that needs them.")
        if key in OWNED_KEYS:
            raise UserError(f"{where} sets {key}, which the comparison sets itself for every run. Remove it.")
        if key in _SAID_ELSEWHERE:
            raise UserError(f"{where} sets {key}: rows would not be what they are called. Use {_SAID_ELSEWHERE[key]}.")
    return opts


def _some(values: Any, where: str) -> Sequence[Any]:
    if not isinstance(values, (list, tuple)) or not values:
        raise UserError(f"{where} must be a list with at least one entry, not {values!r}.")
    return values


def _different(values: Iterable[Any], where: str) -> tuple[Any, ...]:
    values = tuple(values)
    _unique([str(value) for value in values], where)
    return values


def _unique(names: Sequence[str], where: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{where} has {name} twice; every entry needs a name of its own.")


def _mapping(item: Any, known: Sequence[str], where: str) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        raise UserError(f"{where}: expected a mapping, not {item!r}.")
    for key in item:
        if key not in known:
            raise UserError(f"{where}: unknown key {key}.{nearest(str(key), known)}")
    return dict(item)


def _name(value: Any, where: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise UserError(f"{where}: {value!r} is no usable NAME (letters, digits and _ . + - only).")
    return value


def _flag(values: Mapping[str, Any], key: str, where: str) -> bool:
    value = values.get(key, True)
    if not isinstance(value, bool):
        raise UserError(f"{where} {key} must be True or False, not {value!r}.")
    return value
