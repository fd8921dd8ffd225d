"""The config of both stages: one `CfgNode`, Detectron2's keys and those that the rooms of this package declare.

`add_clop_config` is here, as Detectron2's projects offer theirs; it is fetched on first use, because the other modules
of this room also serve commands that answer before torch is imported.
"""

from typing import Any

__all__ = ["add_clop_config"]


def __getattr__(name: str) -> Any:
    if name != "add_clop_config":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from clop_det.config import build

    return build.add_clop_config
