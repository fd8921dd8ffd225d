"""The configuration as the run will have it, and what the run itself refuses in it."""

from __future__ import annotations

from collections.abc import Iterator

from clop_det.detection.config_check import config_checks
from clop_det.detection.scaling import fit_to_processes
from clop_det.doctor.findings import ERROR, OK, Finding, Situation
from clop_det.errors import UserError


def fit_config(situation: Situation) -> Iterator[Finding]:
    """Fit schedule and norm layers to the processes, as training does, for all checks that follow."""
    for note in fit_to_processes(situation.cfg, situation.processes):
        yield Finding("scaling", OK, note)


def check_settings(situation: Situation) -> Iterator[Finding]:
    """Every check of clop-det train on the configuration alone."""
    checks = config_checks(situation.processes)
    for name, check in checks:
        try:
            check(situation.cfg)
        except UserError as error:
            situation.refused.add(name)
            yield Finding(name, ERROR, str(error))
    if not situation.refused:
        yield Finding("settings", OK, f"{len(checks)} checks of the run's own found nothing to refuse")
