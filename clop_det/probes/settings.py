"""The settings of the probes, checked before a run begins."""

from __future__ import annotations

from detectron2.config import CfgNode

from clop_det.errors import UserError

_LEAST = {"BATCH_SIZE": 1, "MAX_BANK": 0, "MAX_QUERIES": 0}


def check_probe_settings(probe: CfgNode) -> None:
    """Refuse what the probes cannot do, where they run at all; UserError names the key.

    Args:
        probe: the group PROBE of a config.
    """
    if not probe.ENABLED:
        return
    ks = tuple(probe.KNN_K)
    if not ks or not all(isinstance(k, int) and k >= 1 for k in ks):
        raise UserError(f"PROBE.KNN_K is {ks}; it must hold one or more whole numbers of at least 1.")
    if not probe.KNN_TEMPERATURE > 0:
        raise UserError(f"PROBE.KNN_TEMPERATURE is {probe.KNN_TEMPERATURE}; it must be above 0.")
    for key, least in _LEAST.items():
        if probe[key] < least:
            raise UserError(f"PROBE.{key} is {probe[key]}; it must be at least {least}.")
