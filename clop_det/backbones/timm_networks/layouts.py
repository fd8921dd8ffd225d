"""One way to spell a network: where it is in a file, and which name of timm each of its names is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

CONSTANTS = ("relative_position_index", "attn_mask")  # that some files save; a network makes them by itself


@dataclass(frozen=True)
class Layout:
    """One way to spell a network.

    Attributes:
        form: see `Root.form`.
        whose: whose names these are.
        anchor: pattern of the name of a tensor that every such network has; its first group is the prefix.
        table: a name below the prefix, and timm's, line by line; timm's is left out where it is the same. `<b>` stands
            for a number, `*` for the rest of a name; timm's name may say `<b+1>` or `<b/2>`. The first line that fits
            counts.
        kernel: the last sizes of a tensor that tells the network from another with the same anchor.
    """

    form: str
    whose: str
    anchor: str
    table: str
    kernel: tuple[str, int] = ("", 0)

    def networks(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, str]]]:
        """(prefix, {name in the file: timm's name}) of each network in this spelling; names of no line are left out."""
        anchor = re.compile(self.anchor)
        rules = [_rule(*line.split()) for line in self.table.splitlines() if line.strip()]
        for prefix in dict.fromkeys(found[1] for name in tensors if (found := anchor.fullmatch(name))):
            kernel = tensors.get(prefix + self.kernel[0])
            if self.kernel[0] and (kernel is None or kernel.shape[-1] != self.kernel[1]):
                continue
            inner = {name: name[len(prefix) :] for name in tensors if name.startswith(prefix)}
            names = {name: new for name, old in inner.items() if (new := _renamed(old, rules)) is not None}
            yield prefix, names


def _rule(theirs: str, timm: str = "") -> tuple[re.Pattern[str], str]:
    pattern = re.escape(theirs).replace(r"\*", "(?P<rest>.+)")
    return re.compile(re.sub(r"<(\w)>", r"(?P<\1>\\d+)", pattern)), timm or theirs


def _renamed(name: str, rules: list[tuple[re.Pattern[str], str]]) -> str | None:
    if name.endswith(CONSTANTS):
        return None
    for pattern, timm in rules:
        if match := pattern.fullmatch(name):
            return _filled(timm, match.groupdict())
    return None


def _filled(timm: str, said: Mapping[str, str]) -> str:
    def number(place: re.Match[str]) -> str:
        by = int(place[3] or 0)
        return str(int(said[place[1]]) // by if place[2] == "/" else int(said[place[1]]) + by)

    return re.sub(r"<(\w)([+/]?)(\d?)>", number, timm).replace("*", said.get("rest", ""))
