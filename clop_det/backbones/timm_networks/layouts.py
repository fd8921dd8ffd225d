"""One way to spell a network: where it is in a file, and which name of timm each of its names is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

Rule = tuple[str, str | Callable[[re.Match[str]], str]]


@dataclass(frozen=True)
class Layout:
    """One way to spell a network.

    Attributes:
        form: see `Root.form`.
        whose: whose names these are.
        anchor: pattern of the name of a tensor that every such network has; its first group is the prefix.
        rules: (pattern of a name below the prefix, timm's name).
        kernel: the last sizes of a tensor that tells the network from another with the same anchor.
    """

    form: str
    whose: str
    anchor: str
    rules: tuple[Rule, ...]
    kernel: tuple[str, int] = ("", 0)

    def networks(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, str]]]:
        """(prefix, {name in the file: timm's name}) of each network in this spelling; names of no rule are left out."""
        anchor, rules = re.compile(self.anchor), [(re.compile(pattern), to) for pattern, to in self.rules]
        for prefix in dict.fromkeys(found[1] for name in tensors if (found := anchor.fullmatch(name))):
            kernel = tensors.get(prefix + self.kernel[0])
            if self.kernel[0] and (kernel is None or kernel.shape[-1] != self.kernel[1]):
                continue
            inner = {name: name[len(prefix) :] for name in tensors if name.startswith(prefix)}
            names = {name: new for name, old in inner.items() if (new := _renamed(old, rules)) is not None}
            yield prefix, names


def _renamed(name: str, rules: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]]) -> str | None:
    for pattern, to in rules:
        if match := pattern.fullmatch(name):
            return to(match) if callable(to) else match.expand(to)
    return None


def plus(template: str, group: int, add: int, half: bool = False) -> Callable[[re.Match[str]], str]:
    """`template` with its {0} filled by a number of the name, halved first if `half`, plus `add`; then \\-groups."""

    def fill(match: re.Match[str]) -> str:
        number = int(match[group]) // 2 if half else int(match[group])
        return match.expand(template.replace("{0}", str(number + add)))

    return fill
