"""A job's identity: what it computes. A name hashes the settings and the content of the input; the code stands beside.

The code is no part of the name: whether it may differ from that of a finished job is for a person to say, see `code`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detectron2 import modeling
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from fvcore.common.registry import Registry

from clop_det import source_code
from clop_det.backbones.registry import BACKBONES, family_of_config
from clop_det.config.content import content_of
from clop_det.config.imported import imported_files, modules_of_others
from clop_det.config.imports import KEY as IMPORTS
from clop_det.detection import identity as detection
from clop_det.digests import Digests, digest
from clop_det.keys import DETECTION, PRETRAINING
from clop_det.pretraining import identity as pretraining
from clop_det.registry import in_use, registers

CONVERSION = ("clop_det.conversion.convert",)
INSPECTION = ("clop_det.comparison.running.inspection",)


@dataclass(frozen=True)
class Identity:
    """What a job computes.

    Attributes:
        digest: hash of its settings and of the content of all it reads.
        reads: digests of what it reads, by what it is called; what other jobs make counts by their digests.
        modules: dotted names of the modules that it begins with.
        imported: module -> file of what IMPORTS names.
    """

    digest: str
    reads: Mapping[str, str] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    imported: Mapping[str, str] = field(default_factory=dict)

    def code_files(self) -> dict[str, str]:
        """Digests of the files that the job would run now, by name."""
        return source_code.code_files(self.modules, {name: Path(path) for name, path in self.imported.items()})


def of_pretraining(cfg: CfgNode, digests: Digests) -> Identity:
    """Of a pretraining under a complete config."""
    return _of_run(cfg, PRETRAINING, pretraining.reads(cfg, digests), pretraining.MODULES)


def of_detection(cfg: CfgNode, start: str, digests: Digests) -> Identity:
    """Of a fine-tuning under a complete config; `start`: digest of the job that makes its weights, or "random"."""
    family = family_of_config(cfg)
    carried = [type(family).__module__] if family else []
    return _of_run(cfg, DETECTION, {"weights": start, **detection.reads(cfg, digests)}, detection.MODULES, carried)


def of_conversion(
    source: str, source_format: str, cfg: CfgNode | None, imports: Sequence[str] = (), keep_heads: bool = False
) -> Identity:
    """Of a conversion.

    Args:
        source: digest of the job, or of the given file, that it converts.
        cfg: config of the job; None: a given file, whose family of networks is found by its content.
        imports: entries of IMPORTS for a given file.
        keep_heads: whether it takes over the heads of a given detector.
    """
    reads = {"source": source}
    brought = _of_families(imports) if cfg is None else _brought(cfg, PRETRAINING, ("backbone",))
    what = ["convert", source_format, reads, *(["heads"] if keep_heads else [])]
    return Identity(digest(what), reads, (*CONVERSION, *brought[0]), brought[1])


def of_inspection(run: Identity, images: Mapping[str, str], count: int) -> Identity:
    """Of an inspection: the fine-tuning, the digests of the images it reads by name, and the number of examples."""
    reads = {"run": run.digest, **images}
    return Identity(digest(["inspect", count, reads]), reads, INSPECTION, run.imported)


def _of_run(
    cfg: CfgNode, stage: str, reads: Mapping[str, str], modules: Iterable[str], carried: Iterable[str] = ()
) -> Identity:
    used, imported = _brought(cfg, stage, carried=carried)
    return Identity(digest([stage, content_of(cfg, stage), dict(reads)]), reads, (*modules, *used), imported)


def _of_families(imports: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The code of all families of networks, any of which a given file may hold, and IMPORTS."""
    modules = {BACKBONES.entry(name).module for name in BACKBONES.names()}
    return _with_files(sorted(modules - modules_of_others(imports)), {IMPORTS: imports})


def _brought(
    cfg: CfgNode, stage: str, kinds: Sequence[str] = (), carried: Iterable[str] = ()
) -> tuple[tuple[str, ...], dict[str, str]]:
    """What a config brings to the code of a job: modules of the things in use (of `kinds` alone), and IMPORTS.

    `carried`: modules that are in use though no key names what they register.
    """
    found = in_use(cfg, stage)
    used = (entry.module for (kind, _), entry in found.items() if not kinds or kind in kinds)
    return _with_files([*used, *carried], cfg)


def _with_files(modules: Iterable[str], cfg: Mapping[str, Any]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Modules that are in use, each once, and the files of those that do not belong to this package, with IMPORTS'."""
    used = tuple(dict.fromkeys(modules))
    # What an installed package brings is not in IMPORTS; it counts where it is in use.
    brought = {name: getattr(sys.modules.get(name), "__file__", None) for name in used}
    own = (source_code.PACKAGE, f"{source_code.PACKAGE}.")
    imported = {name: path for name, path in brought.items() if path and name != own[0] and not name.startswith(own[1])}
    named = imported_files(cfg)
    return used, imported | {name: str(path) for name, path in named.items() if name in used or not _is_idle(name)}


def _is_idle(module: str) -> bool:
    """Whether a module that registers nothing in use has no other part in a run: all that it registers is known here.

    One that registers nothing may do anything, one that registers a part of Detectron2's or a data set may be in use.
    """
    registries = [value for value in vars(modeling).values() if isinstance(value, Registry)]
    parts = [thing for registry in registries for _, thing in registry]
    others = {getattr(thing, "__module__", "") for thing in (*parts, *DatasetCatalog.values())}
    return registers(module) and module not in others
