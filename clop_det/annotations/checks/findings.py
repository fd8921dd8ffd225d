"""What a check of a data set found, what is done about it, and how that is told."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tabulate import tabulate

from clop_det.annotations.checks.kinds import ANNOTATION, DROP, FAIL, IMAGE, KINDS, REPAIR
from clop_det.errors import UserError

_FEW = 10  # faults of a kind that are few, whatever share of a small data set they are
_DONE = {REPAIR: "repaired", DROP: "dropped", FAIL: "refused"}


def beyond_share(count: int, total: int, share: float) -> bool:
    """Whether a fault was found so often that it must have a common cause."""
    return count >= _FEW and count > share * total


class Fault(UserError):
    """A fault of one image or annotation, of a kind that a policy decides about; the message names the file."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Policies:
    """Kind -> policy, complete and checked.

    Args:
        chosen: of every kind.
        max_share: DATASETS.MAX_FAULT_SHARE.

    """

    chosen: tuple[tuple[str, str], ...] = ()
    max_share: float = 1.0

    @classmethod
    def of(cls, given: Mapping[str, Any], max_share: float = 1.0) -> Policies:
        """The policies of a config group.

        Args:
            given: DATASETS.CHECKS, keys in any case; kinds that are absent have their default.
            max_share: DATASETS.MAX_FAULT_SHARE.

        Raises:
            UserError: an unknown kind, or a policy that the kind does not admit.
        """
        lower = {str(key).lower(): value for key, value in given.items()}
        for name in lower:
            if name not in KINDS:
                near = difflib.get_close_matches(name, KINDS, n=1)
                raise UserError(
                    f"DATASETS.CHECKS has no kind {name.upper()}; {f'did you mean {near[0].upper()}? ' if near else ''}"
                    f"kinds are {', '.join(KINDS).upper()}."
                )
        return cls(tuple((name, str(lower.get(name, kind.default))) for name, kind in KINDS.items()), max_share)

    def __getitem__(self, kind: str) -> str:
        return dict(self.chosen).get(kind, KINDS[kind].default)


@dataclass
class Checks:
    """Collects what is found in one data set.

    A fault whose policy is "fail" does not stop the check: everything is looked at first, and `finish` then names all.

    Attributes:
        name: of the data set.
        policies: what to do about each kind.
        entries: kind -> what was found, in the order of the data set.
        causes: kind -> what is likely the matter, where the data say more than the kind does; empty: nothing is.
        images, annotations: how many are left.
        listed: how many images and annotations were looked at.
    """

    name: str
    policies: Policies = field(default_factory=Policies)
    entries: dict[str, list[str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    causes: dict[str, str] = field(default_factory=dict)
    images: int = 0
    annotations: int = 0
    listed: dict[str, int] = field(default_factory=dict)

    def found(self, kind: str, what: str, count: int = 1) -> bool:
        """Note a fault; True: repair it and go on; False: leave the image or annotation out.

        Args:
            kind: a name of `KINDS`.
            what: the file, the annotation and the value, for a person.
            count: of images or annotations that `what` stands for.
        """
        self.entries.setdefault(kind, []).append(what)
        self.counts[kind] = self.counts.get(kind, 0) + count
        return self.policies[kind] == REPAIR

    def found_fault(self, fault: Fault) -> bool:
        """The same for an exception."""
        return self.found(fault.kind, str(fault))

    def too_many(self) -> list[str]:
        """The kinds of which more were found than a sound data set has: their common cause needs a decision."""
        return [
            name
            for name, kind in KINDS.items()
            if self.causes.get(name, kind.cause)
            and self.policies[name] == kind.default
            and beyond_share(
                self.counts.get(name, 0), self.listed.get(kind.dropped, 0), max(kind.share, self.policies.max_share)
            )
        ]

    def finish(self) -> None:
        """Raise UserError if anything was found whose policy is "fail", or too many of a kind."""
        failed = [kind for kind in KINDS if kind in self.entries and self.policies[kind] == FAIL]
        if not failed:
            self._finish_shares()
            return
        first = failed[0]
        others = [f"{self.counts[kind]} {kind}" for kind in failed[1:]]
        more = self.counts[first] - 1
        ways = [policy for policy in KINDS[first].policies if policy != FAIL]
        raise UserError(
            f"data set {self.name}: {self.entries[first][0].rstrip('.')}"
            + (f" (and {more} more of this kind)" if more else "")
            + f". Correct it, or set DATASETS.CHECKS.{first.upper()} to {' or '.join(ways)}."
            + (f" Refused as well: {', '.join(others)}." if others else "")
        )

    def _finish_shares(self) -> None:
        for name in self.too_many():
            kind = KINDS[name]
            ways = [policy for policy in kind.policies if policy not in (kind.default, FAIL)]
            raise UserError(
                f"data set {self.name}: {self.entries[name][0].rstrip('.')} (and {self.counts[name] - 1} more of this"
                f" kind, among {self.listed[kind.dropped]} {kind.dropped}s): {self.causes.get(name, kind.cause)}."
                f" Correct it, or set DATASETS.CHECKS.{name.upper()} to {' or '.join(ways)}, or"
                f" DATASETS.MAX_FAULT_SHARE to 1.0 (all of them are {_DONE[kind.default]})."
            )

    def dropped_kinds(self) -> list[str]:
        """The kinds for which something was left out."""
        return [kind for kind in KINDS if kind in self.entries and self.policies[kind] == DROP]

    def worth_a_warning(self) -> list[str]:
        """The kinds for which something was left out, and those whose repair may not be what is meant."""
        loud = [
            kind for kind in KINDS if kind in self.entries and KINDS[kind].loud and kind not in self.dropped_kinds()
        ]
        return self.dropped_kinds() + loud

    def dropped(self, unit: str) -> int:
        """How many images or annotations were left out for a fault of their own."""
        return sum(self.counts[kind] for kind in self.dropped_kinds() if KINDS[kind].dropped == unit)

    def summary(self) -> str:
        """One line: what was done, how often."""
        return ", ".join(f"{self.counts[k]} {k} {_DONE[self.policies[k]]}" for k in KINDS if k in self.entries)

    def table(self) -> str:
        """A summary for the log: one line if nothing was found, else a table of kinds."""
        head = f"annotation checks of {self.name}: {self.images} images, {self.annotations} annotations"
        if not self.entries:
            return f"{head}, nothing found"
        rows = [
            (
                kind,
                self.counts[kind],
                KINDS[kind].dropped,
                _DONE[self.policies[kind]] + (f": {KINDS[kind].repair}" if self.policies[kind] == REPAIR else ""),
                _short(self.entries[kind][0]),
            )
            for kind in KINDS
            if kind in self.entries
        ]
        left_out = f"; left out: {self.dropped(IMAGE)} images, {self.dropped(ANNOTATION)} annotations"
        header = ("kind", "count", "of", "done", "first")
        return (
            f"{head}{left_out}\n{tabulate(rows, header, tablefmt='simple_outline', maxcolwidths=[24, 8, 10, 34, 60])}"
        )

    def as_dict(self) -> dict[str, Any]:
        """What the run folder keeps: counts, and every repaired or dropped item."""
        return {
            "images": self.images,
            "annotations": self.annotations,
            "findings": {
                kind: {
                    "policy": self.policies[kind],
                    "unit": KINDS[kind].dropped,
                    "count": self.counts[kind],
                    "meaning": KINDS[kind].meaning,
                    "items": self.entries[kind],
                }
                for kind in KINDS
                if kind in self.entries
            },
        }


def _short(text: str, length: int = 110) -> str:
    return text if len(text) <= length else f"{text[: length // 2 - 2]} .. {text[-length // 2 + 2 :]}"
