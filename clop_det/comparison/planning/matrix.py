"""The matrix as data: initialisations, grids, detection configs, checked before anything runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode as CN

from clop_det.comparison.names import BOXED_IMAGE, FIRST_LOOK, LABEL, PAIRED, REDRAW
from clop_det.comparison.planning.inits import Init, check_heads, read_init
from clop_det.comparison.planning.ranked import ranked_inits
from clop_det.comparison.planning.values import (
    Point,
    all_different,
    check_apart,
    check_some,
    check_unique,
    find,
    read_grid,
    read_mapping,
    read_name,
    read_opts,
)
from clop_det.errors import UserError
from clop_det.keys import nearest

_DETECTION_KEYS = ("NAME", "CONFIG", "OPTS", "GRID", "SELECT", "FREEZE")


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
    heads: str = REDRAW
    sequential: bool = False
    test: str = PAIRED
    cost: Mapping[str, float] = field(default_factory=dict)
    ranking: Mapping[str, Any] = field(default_factory=dict)
    imports: tuple[str, ...] = ()
    gpus: int = 1  # processes of a job


def read_matrix(cfg: CN, folder: Path) -> Matrix:
    """Check a comparison config; paths are looked up in `folder` (of the YAML file), then in the working directory.

    Raises:
        UserError: anything in the matrix that could not run or would be ambiguous.
    """
    node = cfg.COMPARE
    seeds = all_different(node.SEEDS, "COMPARE.SEEDS")
    ranked, ranking = ranked_inits(node.INITS_FROM, folder)
    items = [*node.INITS, *ranked] if ranked else check_some(node.INITS, "COMPARE.INITS")
    inits = tuple(read_init(item, folder, seeds) for item in items)
    check_heads(node.HEADS, inits)
    check_unique([init.name for init in inits], "COMPARE.INITS")
    pretrain_grid = read_grid(node.PRETRAIN.GRID, "COMPARE.PRETRAIN.GRID")
    for init in inits:
        check_apart(
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
    check_unique([detection.name for detection in detections], "COMPARE.DETECTION")
    for init, detection in itertools.product(inits, detections):
        where = f"COMPARE.INITS {init.name} DETECTION_OPTS"
        check_apart(init.detection_opts, detection.grid, where, f"the GRID of COMPARE.DETECTION {detection.name}")
    if not detections and not needs_pretraining:
        raise UserError("nothing to run: no initialisation is pretrained and COMPARE.DETECTION is empty.")
    if node.SEQUENTIAL:
        _check_sequential(seeds, str(node.TEST), detections)
    return Matrix(
        name=str(node.NAME),
        description=str(node.DESCRIPTION),
        output=Path(cfg.OUTPUT_DIR),
        inits=inits,
        baseline=node.BASELINE,
        fractions=all_different(map(float, node.LABEL_FRACTIONS), "COMPARE.LABEL_FRACTIONS"),
        seeds=seeds,
        pretrain_config=find(node.PRETRAIN.CONFIG, folder) if needs_pretraining else None,
        pretrain_opts={**device, **read_opts(node.PRETRAIN.OPTS, "COMPARE.PRETRAIN.OPTS")},
        pretrain_grid=pretrain_grid,
        detections=detections,
        metric=str(node.METRIC),
        examples=int(node.EXAMPLES),
        example_score=float(node.EXAMPLE_SCORE),
        heads=str(node.HEADS),
        sequential=bool(node.SEQUENTIAL),
        test=str(node.TEST),
        cost=_read_cost(node.COST),
        ranking=ranking,
        imports=tuple(cfg.IMPORTS),
        gpus=int(node.LAUNCH.GPUS_PER_JOB),
    )


def _read_cost(node: Any) -> dict[str, float]:
    """Cost of a label and of a boxed image; empty: none is given."""
    names = (LABEL, BOXED_IMAGE)
    found = read_mapping(node, names, "COMPARE.COST")
    if found and (
        set(found) != set(names)
        or not all(isinstance(cost, int | float) and not isinstance(cost, bool) and cost > 0 for cost in found.values())
    ):
        raise UserError(f"COMPARE.COST is {dict(found)}; it must give {LABEL} and {BOXED_IMAGE} a number above 0 each.")
    return {name: float(cost) for name, cost in found.items()}


def _check_sequential(seeds: Sequence[int], test: str, detections: Iterable[Detection]) -> None:
    if len(seeds) <= FIRST_LOOK:
        raise UserError(
            f"COMPARE.SEQUENTIAL first looks after {FIRST_LOOK} seeds, but COMPARE.SEEDS has only {len(seeds)}. Give"
            " more seeds, or set COMPARE.SEQUENTIAL False."
        )
    if test != PAIRED:
        raise UserError(
            f"COMPARE.SEQUENTIAL gives the rows different numbers of seeds, which COMPARE.TEST {test} cannot judge. Set"
            f" COMPARE.TEST {PAIRED}."
        )
    tuned = [detection.name for detection in detections if detection.select_by]
    if tuned:
        raise UserError(
            f"COMPARE.SEQUENTIAL stops seeds while COMPARE.DETECTION {tuned[0]} chooses its setting over all of them"
            " (SELECT). Use one of the two."
        )


def _read_detection(item: Any, folder: Path, device: Mapping[str, str]) -> Detection:
    if isinstance(item, str):
        item = {"CONFIG": item}
    values = read_mapping(item, _DETECTION_KEYS, "COMPARE.DETECTION")
    if not values.get("CONFIG"):
        raise UserError("an entry of COMPARE.DETECTION has no CONFIG.")
    path = find(str(values["CONFIG"]), folder)
    name = read_name(values.get("NAME", path.stem), "COMPARE.DETECTION")
    select = read_mapping(values.get("SELECT", {}), ("BY", "REPORT"), f"COMPARE.DETECTION {name} SELECT")
    if bool(select.get("BY")) != bool(select.get("REPORT")):
        raise UserError(f"COMPARE.DETECTION {name} SELECT needs both BY and REPORT: two data sets of DATASETS.TEST.")
    if select.get("BY") and select["BY"] == select["REPORT"]:
        raise UserError(f"COMPARE.DETECTION {name} SELECT chooses on the set it reports ({select['BY']}): use another.")
    opts = read_opts(values.get("OPTS", {}), f"COMPARE.DETECTION {name} OPTS")
    if "FREEZE" in values:
        opts["MODEL.FREEZE"] = str(values["FREEZE"])
    grid = read_grid(values.get("GRID", {}), f"COMPARE.DETECTION {name} GRID")
    check_apart(opts, grid, f"COMPARE.DETECTION {name} OPTS", "its GRID")
    return Detection(
        name,
        path,
        {**device, **opts},
        grid,
        str(select.get("BY", "")),
        str(select.get("REPORT", "")),
    )
