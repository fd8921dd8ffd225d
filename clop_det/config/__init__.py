"""The config of both stages: one `CfgNode`, Detectron2's keys and those that the rooms of this package declare."""

from clop_det.config.build import add_clop_config

__all__ = ["add_clop_config"]
