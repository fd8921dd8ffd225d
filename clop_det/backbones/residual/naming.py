"""Tensor names of a residual network: torchvision's, which are the own names here, and Detectron2's, one to one."""

from __future__ import annotations

import re

# (torchvision's, Detectron2's). Stages count from 1 there and from 2 here.
_NAMES = (
    ("conv1.weight", "stem.conv1.weight"),
    ("bn1.{part}", "stem.conv1.norm.{part}"),
    ("layer{stage}.{block}.conv{k}.weight", "res{stage}.{block}.conv{k}.weight"),
    ("layer{stage}.{block}.bn{k}.{part}", "res{stage}.{block}.conv{k}.norm.{part}"),
    ("layer{stage}.{block}.downsample.0.weight", "res{stage}.{block}.shortcut.weight"),
    ("layer{stage}.{block}.downsample.1.{part}", "res{stage}.{block}.shortcut.norm.{part}"),
)


def _pattern(template: str, stages: str) -> re.Pattern[str]:
    groups = {
        "stage": f"(?P<stage>{stages})",
        "block": r"(?P<block>\d+)",
        "k": "(?P<k>[123])",
        "part": "(?P<part>weight|bias|running_mean|running_var)",
    }
    return re.compile(template.replace(".", r"\.").format(**groups))


_TO_DETECTRON2 = [(_pattern(theirs, "[1-4]"), here) for theirs, here in _NAMES]
_TO_TORCHVISION = [(_pattern(here, "[2-5]"), theirs) for theirs, here in _NAMES]


def detectron2_name(name: str) -> str:
    """Detectron2's name of the tensor that torchvision calls `name`.

    Raises:
        KeyError: not a tensor of a torchvision residual network without classifier and counters.
    """
    return _translate(name, _TO_DETECTRON2, 1)


def torchvision_name(name: str) -> str:
    """torchvision's name of the tensor that Detectron2's residual network calls `name`; inverse of `detectron2_name`.

    Raises:
        KeyError: not a tensor of a Detectron2 residual network.
    """
    return _translate(name, _TO_TORCHVISION, -1)


def _translate(name: str, rules: list[tuple[re.Pattern[str], str]], shift: int) -> str:
    for pattern, template in rules:
        if match := pattern.fullmatch(name):
            found = match.groupdict()
            if "stage" in found:
                found["stage"] = str(int(found["stage"]) + shift)
            return template.format(**found)
    raise KeyError(name)
