"""What a file says of its residual network, compared with the one that its tensors show.

Networks that compute something else may have the same tensors: with blurred pooling, with dilation, with another
activation. Then only the file's own words tell them apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from clop_det.backbones.base import NETWORK_KEYS
from clop_det.backbones.residual.architectures import ResidualArchitecture

_NAME = re.compile(r"(?P<wide>wide[_-]?)?(?P<word>[a-z]*res[a-z0-9]*?(?:net|next|nest)[a-z]*)[_-]?(?P<depth>\d{2,3})")
_PLAIN = frozenset({"resnet", "resnext", "wideresnet"})
_ALTERED = re.compile(r"(?<![a-z])(blur(pool)?|aa|antialias\w*|lpf|dilat\w*|os8|os16|d8|d16|gn)(?![a-z])")
# Settings of the libraries that change what a network computes and not its tensors -> the values that change nothing.
_SETTINGS: dict[str, tuple[Any, ...]] = {
    "output_stride": (32,),
    "replace_stride_with_dilation": ((False, False, False), [False, False, False]),
    "replace_strides_with_dilation": ((False, False, False), [False, False, False]),
    "dilated": (False,),
    "aa_layer": ("",),
    "antialias": (False,),
    "antialiased": (False,),
    "act_layer": ("relu", "ReLU"),
    "config.json.hidden_act": ("relu",),
    "config.json.downsample_in_first_stage": (False,),
}
# Whose words are not about the network that is converted.
_OTHERS = re.compile(r"(.*_)?(teacher|optim\w*|(lr_)?sched\w*|callbacks|loops|discriminator)(_.*)?")


def contradiction(architecture: ResidualArchitecture, facts: Mapping[str, Any]) -> str:
    """Completes "the file says "; "" where nothing contradicts. See `Family.contradiction`."""
    for key, value in facts.items():
        *parents, last = key.split(".")
        if any(_OTHERS.fullmatch(parent) for parent in parents):
            continue
        named = last in NETWORK_KEYS or (last == "name" and parents and parents[-1] in NETWORK_KEYS)
        if named and isinstance(value, str) and _is_another(value, architecture):
            return f"{key} = {value}"
        harmless = _SETTINGS.get(key, _SETTINGS.get(last))
        if harmless is not None and value not in harmless:
            return f"{key} = {value}"
    return ""


def _is_another(said: str, architecture: ResidualArchitecture) -> bool:
    """Whether a name is one of a residual network, and of another than this; timm's tags and prefixes do not count."""
    name = re.split(r"[/:]", said.lower())[-1]
    found = _NAME.search(name)
    if found is None:
        return False
    word = ("wide" if found["wide"] else "") + found["word"]
    ours = re.match(r"(?P<word>\D+?)_?\d", architecture.name)
    expected = ours["word"].replace("_", "") if ours else ""
    if word not in _PLAIN or word != expected or int(found["depth"]) != architecture.depth:
        return True
    width = re.search(r"(?<=_)(\d+x\d+d)", name)
    others = {width[1]} - {architecture.name.rpartition("_")[2]} if width else set()
    return bool(others or _ALTERED.search(name.replace("_", " ").replace("-", " ")))
