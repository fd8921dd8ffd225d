"""From the matrix to jobs: every config is resolved in full before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from clop_det.comparison.names import JOBS_FOLDER, KEEP
from clop_det.comparison.planning import identity
from clop_det.comparison.planning.inits import Init
from clop_det.comparison.planning.jobs import Job, job_name
from clop_det.comparison.planning.matrix import Detection, Matrix
from clop_det.comparison.planning.values import Point
from clop_det.config.files import read_file
from clop_det.config.imported import check_in_use_is_imported
from clop_det.config.imports import KEY as IMPORTS
from clop_det.config.imports import Import
from clop_det.config.reading import assemble, merge_mapping, run_defaults
from clop_det.data.content import images_digest
from clop_det.detection.scaling import scaled_steps
from clop_det.digests import UNREAD, Digests
from clop_det.errors import UserError
from clop_det.keys import DETECTION, PRETRAINING, check_rules

CONVERTED = "backbone.pth"


@dataclass(frozen=True)
class Cell:
    """One row of the results: what is compared, and the jobs that its figures come from ("" = none)."""

    init: str
    label_fraction: float | None
    seed: int
    detection: str
    pretrain_grid: dict[str, Any]
    detection_grid: dict[str, Any]
    pretrain: str = ""
    convert: str = ""
    detect: str = ""
    inspect: str = ""


@dataclass
class Plan:
    """Cells and the jobs they need; `jobs` lists needs before their users.

    `unread`: data that cannot be read here -> why; the names of jobs that read them say nothing of their content.
    """

    matrix: Matrix
    cells: list[Cell] = field(default_factory=list)
    jobs: dict[str, Job] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)

    def unread_by(self, jobs: Iterable[Job]) -> dict[str, str]:
        """What of `unread` belongs to `jobs`."""
        lacking = {what for job in jobs for what, known in job.identity.reads.items() if known == UNREAD}
        return {what: why for what, why in self.unread.items() if what in lacking}

    @property
    def root(self) -> Path:
        """Folder of the run folders."""
        return self.matrix.output / JOBS_FOLDER


def build_plan(matrix: Matrix) -> Plan:
    """Resolve the matrix.

    Seeds vary slowest, so a comparison that is cut short is complete for the seeds it has.

    Raises:
        UserError: a config that does not resolve, an unknown loss, or two initialisations that are the same run.
    """
    plan = Plan(matrix)
    builder = _Builder(plan)
    for seed in matrix.seeds:
        for fraction in matrix.fractions:
            for init in matrix.inits:
                for point in matrix.pretrain_grid if init.uses_grid else ((),):
                    builder.add(init, fraction if init.uses_labels else None, seed, point)
    plan.unread = builder.digests.problems
    return plan


class _Builder:
    """Adds cells and their jobs to a plan; a job that several cells share is added once."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._matrix = plan, plan.matrix
        self.digests = Digests()

    def add(self, init: Init, fraction: float | None, seed: int, point: Point) -> None:
        values = self._pretrain_values(init, fraction, seed, point)
        cfg = self._pretrain_config(init, values) if init.pretrained else None
        if fraction is not None and cfg is not None and (cfg.LABELS.PER_CLASS or cfg.LABELS.SPLIT_FILE):
            self._check_one_fraction(init)
            fraction = None
        facts: dict[str, Any] = {"init": init.name, "loss": init.loss, "label_fraction": fraction, "seed": seed}
        facts |= {"pretrain_grid": dict(point)}
        labels = [init.name, _percent(fraction), *_point_label(point)]
        pretrain = self._pretrain(cfg, [*labels, f"s{seed}"], self._with(facts, values)) if cfg is not None else None
        convert = self._convert(init, pretrain, facts, labels, seed)
        base = Cell(init.name, fraction, seed, "", dict(point), {}, _name(pretrain), _name(convert))
        if not self._matrix.detections:
            self._add_cell(base)
        for detection in self._matrix.detections:
            for setting in detection.grid:
                self._detect(base, convert, detection, setting, facts, labels)

    def _pretrain_values(self, init: Init, fraction: float | None, seed: int, point: Point) -> dict[str, Any]:
        values = {**self._matrix.pretrain_opts, "LOSS.NAME": init.loss, **dict(point), **init.opts, "SEED": seed}
        values |= {"PRETRAIN.FROM": str(init.starts[seed])} if init.starts else {}
        return values if fraction is None else {**values, "LABELS.FRACTION": fraction}

    def _pretrain_config(self, init: Init, values: Mapping[str, Any]) -> CfgNode:
        assert self._matrix.pretrain_config is not None  # checked with the matrix
        where = f"COMPARE.INITS {init.name}"
        cfg = resolve(self._matrix.pretrain_config, values, where, self._matrix.imports)
        try:
            check_in_use_is_imported(cfg, PRETRAINING)
            check_rules(cfg, PRETRAINING)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        return cfg

    def _check_one_fraction(self, init: Init) -> None:
        """Labels by count or from a given split do not depend on the label fraction: one row, not several."""
        if len(self._matrix.fractions) > 1:
            raise UserError(
                f"COMPARE.INITS {init.name} takes its labels by LABELS.PER_CLASS or LABELS.SPLIT_FILE, so the label"
                f" fractions {list(self._matrix.fractions)} would be the same run. Give one in COMPARE.LABEL_FRACTIONS."
            )

    def _pretrain(self, cfg: CfgNode, labels: list[str], facts: Mapping[str, Any]) -> Job:
        own = identity.of_pretraining(cfg, self.digests)
        name = job_name("pretrain", labels, own)
        return self._add_job(Job("pretrain", name, own, (), "model_final.pth", cfg, cfg.SOLVER.MAX_ITER, facts))

    def _convert(
        self, init: Init, pretrain: Job | None, facts: Mapping[str, Any], labels: list[str], seed: int
    ) -> Job | None:
        if not self._matrix.detections or (pretrain is None and not init.checkpoints):
            return None
        keep = self._matrix.heads == KEEP
        if pretrain is not None:
            source, content = str(self._plan.root / pretrain.name / pretrain.product), pretrain.digest
            labels = [*labels, f"s{seed}"]
        else:
            path = init.checkpoints[seed]
            source, content = str(path), self.digests.of_file(path)
            one = len(set(init.checkpoints.values())) == 1
            facts = {**facts, "seed": None if one else seed}
            labels = labels if one else [*labels, f"s{seed}"]
        cfg = pretrain.config if pretrain else None
        own = identity.of_conversion(content, init.source, cfg, self._matrix.imports, keep)
        imports = pretrain.config.IMPORTS if pretrain and pretrain.config else self._matrix.imports
        arguments = {"source": source, "output": CONVERTED, "format": init.source, "imports": "\n".join(imports)}
        arguments |= {"heads": KEEP} if keep else {}
        needs = (pretrain.name,) if pretrain else ()
        name = job_name("convert", labels, own)
        return self._add_job(Job("convert", name, own, needs, CONVERTED, facts=facts, arguments=arguments))

    def _detect(
        self,
        base: Cell,
        convert: Job | None,
        detection: Detection,
        setting: Point,
        facts: Mapping[str, Any],
        labels: list[str],
    ) -> None:
        own_opts = next(init.detection_opts for init in self._matrix.inits if init.name == base.init)
        values = {**detection.opts, **own_opts, **dict(setting), "SEED": base.seed}
        values["MODEL.WEIGHTS"] = str(self._plan.root / convert.name / convert.product) if convert else ""
        where = f"COMPARE.DETECTION {detection.name}" + (f" of COMPARE.INITS {base.init}" if own_opts else "")
        cfg = resolve(detection.config, values, where, self._matrix.imports)
        try:
            check_in_use_is_imported(cfg, DETECTION)
            check_rules(cfg, DETECTION)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        if cfg.MODEL.FREEZE and convert is None:
            return  # random weights that are never trained
        for wanted in (detection.select_by, detection.report_on):
            if wanted and wanted not in cfg.DATASETS.TEST:
                raise UserError(f"COMPARE.DETECTION {detection.name} SELECT: {wanted} is not in {cfg.DATASETS.TEST}.")
        own = identity.of_detection(cfg, convert.digest if convert else "random", self.digests)
        name = job_name("detect", [detection.name, *labels, *_point_label(setting), f"s{base.seed}"], own)
        facts = {**facts, "detection": detection.name, "detection_grid": dict(setting)}
        facts |= {"pretrain": base.pretrain, "convert": base.convert}
        needs = (convert.name,) if convert else ()
        steps = scaled_steps(cfg, self._matrix.gpus)
        detect = Job("detect", name, own, needs, "model_final.pth", cfg, steps, self._with(facts, values))
        self._add_job(detect)
        inspect = self._inspect(detect, needs)
        self._add_cell(
            Cell(
                **{**asdict(base), "detection": detection.name, "detection_grid": dict(setting)}
                | {"detect": name, "inspect": _name(inspect)}
            )
        )

    def _inspect(self, detect: Job, needs: tuple[str, ...]) -> Job | None:
        count = self._matrix.examples
        if not count or detect.facts["seed"] != self._matrix.seeds[0]:
            return None
        assert detect.config is not None
        images = detect.config.CLASSIFICATION
        arguments = {"run": str(self._plan.root / detect.name), "examples": str(count)}
        arguments["weights"] = detect.config.MODEL.WEIGHTS
        split = images.EVAL_SPLIT
        read = {f"classification images of {split}": images_digest(images, split, self.digests)} if images.ROOT else {}
        own = identity.of_inspection(detect.identity, read, count)
        name = job_name("inspect", [detect.name.split("-", 1)[1].rsplit("-", 1)[0]], own)
        facts = {**detect.facts, "detect": detect.name}
        return self._add_job(Job("inspect", name, own, (*needs, detect.name), facts=facts, arguments=arguments))

    def _with(self, facts: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
        return {**facts, "values": {key: value for key, value in values.items() if key != "MODEL.WEIGHTS"}}

    def _add_job(self, job: Job) -> Job:
        for other in self._plan.jobs.values():
            if other.digest == job.digest and other.name != job.name:
                raise UserError(
                    f"{other.title} and {job.title} are the same run: their configs are equal. Remove one of the two"
                    " entries of the matrix, or give it the setting that was meant to differ."
                )
        if job.config is not None:
            job.config.OUTPUT_DIR = str(self._plan.root / job.name)
            job.config.freeze()
        return self._plan.jobs.setdefault(job.name, job)

    def _add_cell(self, cell: Cell) -> None:
        if cell not in self._plan.cells:
            self._plan.cells.append(cell)


def resolve(config: Path, values: Mapping[str, Any], where: str, imports: Sequence[str] = ()) -> CfgNode:
    """Defaults, the YAML file and its bases, then `values` (dotted key -> value); not frozen.

    `imports`: entries of IMPORTS beside those that the file names.

    Raises:
        UserError: as `clop_det.config.reading.read_config`.
    """
    file = read_file(str(config))
    shared = [Import(entry, f"{IMPORTS} of the comparison", Path()) for entry in imports]
    cfg = assemble(run_defaults, file, [*shared, *file.imports])
    merge_mapping(cfg, values, where)
    return cfg


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:g}pct"


def _point_label(point: Point) -> Iterator[str]:
    for key, value in point:
        text = "x".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        yield f"{key.split('.')[-1].lower()}_{text}".replace("/", "_").replace(" ", "")


def _name(job: Job | None) -> str:
    return job.name if job else ""
