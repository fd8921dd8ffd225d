"""What happens to an image that cannot be read: the run fails, or another image of its class stands in for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from clop_det.data.decoding import UnreadableImage
from clop_det.errors import UserError

_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unreadable:
    """The policy; the fields are CLASSIFICATION.UNREADABLE and CLASSIFICATION.MAX_UNREADABLE.

    Attributes:
        policy: "fail", or "replace".
        max_share: of a split's images that may be replaced, in [0, 1).
    """

    policy: str = "fail"
    max_share: float = 0.01

    @classmethod
    def from_config(cls, node: Mapping[str, Any]) -> Unreadable:
        """The policy in the config node CLASSIFICATION."""
        return cls(node["UNREADABLE"], node["MAX_UNREADABLE"])

    @property
    def replaces(self) -> bool:
        """Whether other images stand in."""
        return self.policy == "replace"

    def read(self, index: int, labels: Tensor, load: Callable[[int], _Result]) -> tuple[_Result, int]:
        """`load(index)`, or that of the image that stands in for it, and the index of the image that was read.

        The stand-in is the next readable image with the same label, in the order of the list, from the start again
        after the end: a function of the files alone, and the label stays true.

        Raises:
            UnreadableImage: the image cannot be read and is not to be replaced, or all others of its label are
                unreadable too.
        """
        try:
            return load(index), index
        except UnreadableImage as error:
            if not self.replaces:
                raise
            for other in _same_label(labels, index):
                try:
                    return load(other), other
                except UnreadableImage:
                    continue
            raise UnreadableImage(f"{error} No other image of its class can be read either.") from error

    def check(self, replaced: Mapping[int, int], names: tuple[str, ...]) -> None:
        """UserError if more images were replaced (index -> stand-in) than the policy allows, of `names` in all."""
        allowed = int(self.max_share * len(names))
        if len(replaced) > allowed:
            some = ", ".join(names[index] for index in sorted(replaced)[:3])
            raise UserError(
                f"{len(replaced)} of {len(names)} images cannot be read ({some}, ...), more than the {allowed} that "
                f"CLASSIFICATION.MAX_UNREADABLE {self.max_share:g} allows. Repair or remove them."
            )


class Replacements:
    """The images of one list that were replaced so far: counted, logged, bounded by the policy.

    Attributes:
        policy: the policy.
        replaced: index of each unreadable image -> index of the image that stands in for it.
    """

    def __init__(self, policy: Unreadable, names: tuple[str, ...]) -> None:
        self.policy, self._names = policy, names
        self.replaced: dict[int, int] = {}

    def add(self, replaced: Mapping[int, int]) -> None:
        """Count further ones; UserError if they are more than the policy allows."""
        if replaced.keys() <= self.replaced.keys():
            return
        self.replaced.update(replaced)
        some = ", ".join(f"{self._names[i]} by {self._names[other]}" for i, other in sorted(self.replaced.items())[:3])
        _log.warning("%d of %d images cannot be read and are replaced: %s", len(self.replaced), len(self._names), some)
        self.policy.check(self.replaced, self._names)


def _same_label(labels: Tensor, index: int) -> Iterator[int]:
    members: list[int] = (labels == labels[index]).nonzero().view(-1).tolist()
    place = members.index(index)
    yield from members[place + 1 :]
    yield from members[:place]
