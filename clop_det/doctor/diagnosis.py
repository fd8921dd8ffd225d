"""All checks, one after another; a check that cannot go on says why and does not stop the others."""

from __future__ import annotations

from collections.abc import Iterator

from detectron2.config import CfgNode

from clop_det.checkpoints.loading import quiet_loading
from clop_det.doctor.data_sets import check_classes, check_figures, check_images
from clop_det.doctor.findings import ERROR, Check, Finding, Situation
from clop_det.doctor.resources import (
    check_data,
    check_device,
    check_disk,
    check_probe_images,
    check_shared_memory,
    check_training_images,
)
from clop_det.doctor.schedule import check_epochs, check_schedule
from clop_det.doctor.settings import check_settings, fit_config
from clop_det.doctor.weights import check_architecture, check_conventions, check_loading, check_norm, read_weights
from clop_det.errors import UserError

# Name for the line of a check that fails as a whole -> the check. The first three fill in the situation for the others.
CHECKS: tuple[tuple[str, Check], ...] = (
    ("scaling", fit_config),
    ("settings", check_settings),
    ("weights", read_weights),
    ("conventions", check_conventions),
    ("architecture", check_architecture),
    ("norm", check_norm),
    ("tensors", check_loading),
    ("schedule", check_schedule),
    ("data", check_data),
    ("training images", check_training_images),
    ("classes", check_classes),
    ("best checkpoint", check_figures),
    ("overlap", check_images),
    ("length", check_epochs),
    ("probes", check_probe_images),
    ("device", check_device),
    ("shared memory", check_shared_memory),
    ("disk", check_disk),
)


def diagnose(cfg: CfgNode, processes: int = 1, machines: int = 1) -> list[Finding]:
    """Run every check on a configuration.

    Args:
        cfg: the configuration of a fine-tuning run; it is not changed.
        processes: processes that the run will have on all machines together, at least 1.
        machines: machines that it will have, at least 1.

    Returns:
        findings in the order of the checks.
    """
    own = cfg.clone()
    own.defrost()
    situation = Situation(own, processes, machines)
    with quiet_loading():  # which heads start random is no finding
        return [finding for name, check in CHECKS for finding in _guarded(name, check, situation)]


def _guarded(name: str, check: Check, situation: Situation) -> Iterator[Finding]:
    try:
        yield from check(situation)
    except UserError as error:
        yield Finding(name, ERROR, str(error))
    except Exception as error:  # a check that breaks is a finding, too: Detectron2 asserts where it could explain
        yield Finding(name, ERROR, f"{type(error).__name__}: {error}", "this is what the run would end with")
