"""From the config to the tasks of a run, and from the tasks to figures: what both trainers call."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

from detectron2.config import CfgNode

from clop_det.engine.ranks import first_rank_alone
from clop_det.errors import UserError
from clop_det.probes.base import PROBES, Probe, ProbeData

# What a task needs -> prefix of its figures' names -> the data. One function given for two needs is called once.
Sources = Mapping[str, Mapping[str, Callable[[], ProbeData]]]


def build_tasks(cfg: CfgNode) -> list[Probe]:
    """The tasks of PROBE.TASKS; none with PROBE.ENABLED False.

    Raises:
        UserError: a task that is not registered or is named twice.
    """
    if not cfg.PROBE.ENABLED:
        return []
    names = list(cfg.PROBE.TASKS)
    if not names:
        raise UserError("PROBE.TASKS is empty; it must name one probe or more. PROBE.ENABLED False runs none.")
    twice = [name for index, name in enumerate(names) if name in names[:index]]
    if twice:
        raise UserError(f"PROBE.TASKS names {twice[0]} twice. Name every probe once.")
    entries = [PROBES.entry(name) for name in names]
    tasks = [entry.thing(PROBES.options(entry.name, cfg)) for entry in entries]
    for task in tasks:
        task.join(tasks)
    return tasks


def figure_names(tasks: Sequence[Probe], needs: Collection[str]) -> list[str]:
    """Names of the figures that a stage which has the data `needs` can get from `tasks`."""
    return [name for task in tasks if task.needs in needs for name in task.names]


def run_tasks(tasks: Sequence[Probe], sources: Sources) -> dict[str, float]:
    """Every task on every set of the data that it needs; the features of a set are computed once.

    All ranks call it, since the sources may need them all. The first one measures while the others wait.

    Returns:
        prefix + name -> value, finite values alone, in the order of the tasks; on other ranks than the first nothing.
    """
    read: dict[Callable[[], ProbeData], ProbeData] = {}
    figures: dict[str, float] = {}
    for task in tasks:
        for prefix, source in sources.get(task.needs, {}).items():
            if source not in read:
                read[source] = source()
            with first_rank_alone() as is_first:
                found = task.measure(read[source]) if is_first else {}
            figures |= {f"{prefix}{name}": float(value) for name, value in found.items() if math.isfinite(value)}
    return figures
