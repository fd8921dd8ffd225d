"""One job = one ordinary run folder, named by what it is and by the content that determines its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode

from clop_det.config.files import flatten
from clop_det.engine.run_folder import CONFIG_NAME, RESULTS_NAME
from clop_det.errors import UserError
from clop_det.files import read_json, write_json, write_text

JOB_NAME = "job.json"
JOB_CONFIG = "job.yaml"
JOBS_FOLDER = "jobs"
_LONGEST = 180  # characters of a folder's name before the digest
KINDS = ("pretrain", "convert", "detect", "inspect")

# Where a run lies, and where its input lies: the upstream job's digest stands for the input's content.
NOT_CONTENT = ("OUTPUT_DIR", "MODEL.WEIGHTS")


@dataclass(frozen=True)
class Job:
    """What to run, and what its figures are about.

    Attributes:
        kind: one of `KINDS`.
        name: name of the run folder: readable part and the first digits of the digest.
        digest: hash of everything that determines the result.
        needs: names of the jobs whose product it reads.
        product: file in the run folder that other jobs read; empty: none.
        config: the complete config, for pretrain and detect.
        iterations: training steps, 0 for the quick kinds.
        facts: what the figures are about (init, label_fraction, seed, detection, grid, ...), for the report.
        arguments: settings of the quick kinds (source file, number of examples, ...).
    """

    kind: str
    name: str
    digest: str
    needs: tuple[str, ...] = ()
    product: str = ""
    config: CfgNode | None = None
    iterations: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What a person reads in the progress display."""
        return self.name.rsplit("-", 1)[0].replace("-", " ")


def digest_of(kind: str, *content: object) -> str:
    """SHA-256 over a kind and JSON-able content; a config counts with all its values but where the run lies."""
    parts = [_config_content(item) if isinstance(item, CfgNode) else item for item in content]
    text = json.dumps([kind, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def job_name(kind: str, parts: list[str], digest: str) -> str:
    """Folder name: kind, readable parts (cut where a file system would refuse them), eight digits of the digest."""
    readable = "-".join([kind, *(part for part in parts if part)])
    return f"{readable[:_LONGEST]}-{digest[:8]}"


def prepare_folder(job: Job, folder: Path) -> dict[str, Any]:
    """Make `folder` this job's, or check that it already is; writes job.json and job.yaml.

    Returns:
        The record in job.json, with what earlier attempts left in it.

    Raises:
        UserError: the folder belongs to another job, or to no job at all.
    """
    record = check_folder(job, folder)
    record.update(
        kind=job.kind,
        name=job.name,
        digest=job.digest,
        needs=list(job.needs),
        iterations=job.iterations,
        arguments=dict(job.arguments),
        **job.facts,
    )
    record.setdefault("attempts", [])
    if job.config is not None:
        record["device"] = job.config.MODEL.DEVICE
        write_text(folder / JOB_CONFIG, job.config.dump())
        _follow_weights(folder / CONFIG_NAME, job.config.MODEL.WEIGHTS)
    write_json(folder / JOB_NAME, record)
    return record


def _follow_weights(config: Path, weights: str) -> None:
    """In the config of a run that has begun, let MODEL.WEIGHTS point to where the comparison lies now.

    The digest says that the job is the same, content of its weights included; a trainer that resumes compares paths.
    """
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
        there = content["MODEL"]["WEIGHTS"]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return  # not begun, or damaged: the trainer says so
    if there != weights:
        content["MODEL"]["WEIGHTS"] = weights
        write_text(config, yaml.safe_dump(content))


def check_folder(job: Job, folder: Path) -> dict[str, Any]:
    """The record of a folder that is free or this job's; UserError if it is somebody else's."""
    if (folder / JOB_NAME).is_file():
        record: dict[str, Any] = read_json(folder / JOB_NAME)
        if record.get("digest") != job.digest:
            raise UserError(f"{folder} holds another job ({record.get('digest')}). Choose another OUTPUT_DIR.")
        return record
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty and no job of a comparison. Move it away or choose another OUTPUT_DIR.")
    return {}


def is_done(job: Job, folder: Path) -> bool:
    """Whether the job has ended with its figures; results.json is the last thing a run writes."""
    if not (folder / RESULTS_NAME).is_file() or not (folder / JOB_NAME).is_file():
        return False
    return bool(read_json(folder / JOB_NAME).get("digest") == job.digest)


def jobs_to_run(jobs: Mapping[str, Job], root: Path) -> list[str]:
    """Names of the jobs that still have to run, in order.

    A finished job runs again only if its product was deleted and an unfinished job needs it.
    """
    unfinished = {name for name, job in jobs.items() if not is_done(job, root / name)}
    for name in reversed(list(jobs)):  # needs come before their users
        if name in unfinished:
            for need in jobs[name].needs:
                product = jobs[need].product
                if product and not (root / need / product).exists():
                    unfinished.add(need)
    return [name for name in jobs if name in unfinished]


def _config_content(cfg: CfgNode) -> dict[str, Any]:
    return {key: value for key, value in flatten(cfg) if key not in NOT_CONTENT}
