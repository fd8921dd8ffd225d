"""Config keys, each declared once beside what reads it: default, meaning, rule and where it counts.

A declaration gives everything that is ever said about a key: its default in the config, the error for a value that its
rule refuses, its line in `--help` and in the generated reference, and whether its value says what a run computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PRETRAINING, DETECTION, COMPARISON = "pretraining", "detection", "comparison"
BOTH = (PRETRAINING, DETECTION)


@dataclass(frozen=True)
class Rule:
    """What a value must satisfy.

    Attributes:
        text: completes "it must ...", e.g. "be at least 1".
        allows: whether a value satisfies the rule.
    """

    text: str
    allows: Callable[[Any], bool]


def at_least(low: float) -> Rule:
    """A number of at least `low`."""
    return Rule(f"be at least {low:g}", lambda value: value >= low)


def above(low: float) -> Rule:
    """A number above `low`."""
    return Rule(f"be above {low:g}", lambda value: value > low)


def between(low: float, high: float, ends: str = "[]") -> Rule:
    """A number between `low` and `high`; a round bracket in `ends` leaves that end out."""

    def allows(value: Any) -> bool:
        return bool(
            (low <= value if ends[0] == "[" else low < value) and (value <= high if ends[1] == "]" else value < high)
        )

    return Rule(f"lie in {ends[0]}{low:g}, {high:g}{ends[1]}", allows)


def one_of(*choices: Any) -> Rule:
    """One of a few values."""
    return Rule(f"be one of {', '.join(map(str, choices))}", lambda value: value in choices)


def each(rule: Rule, least: int = 1) -> Rule:
    """A list of at least `least` entries, each of which satisfies `rule`."""
    return Rule(
        f"be a list of at least {least} values, each of which must {rule.text}",
        lambda values: len(values) >= least and all(rule.allows(value) for value in values),
    )


@dataclass(frozen=True)
class Key:
    """One config key.

    Attributes:
        default: its value where nobody sets it; its type is the key's type.
        help: meaning and unit in one sentence or two.
        rule: what a value must satisfy; None: any value of the type.
        content: whether the value says what a run computes. False for places (folders, files) and for what changes
            no figure; such a key is no part of a job's identity.
        names: the kind of registered thing that the value names, for an option that names one; empty: none.
    """

    default: Any
    help: str
    rule: Rule | None = None
    content: bool = True
    names: str = ""


@dataclass(frozen=True)
class Declared:
    """A declared key: the stages whose runs read it, and the registered thing that it belongs to, if any.

    Attributes:
        stages: some of `PRETRAINING`, `DETECTION`, `COMPARISON`.
        owner: (kind, name) of a registered thing whose option it is: the key counts only where that thing is in use.
    """

    key: Key
    stages: tuple[str, ...]
    owner: tuple[str, str] | None = None


_DECLARED: dict[str, Declared] = {}


def declare(stages: str | Sequence[str], keys: Mapping[str, Key], owner: tuple[str, str] | None = None) -> None:
    """Declare keys by their dotted names, e.g. {"LABELS.FRACTION": Key(0.1, "...", between(0, 1, "(]"))}.

    Raises:
        ValueError: a name is not in capitals, is declared already, or its default breaks its own rule.
    """
    stages = (stages,) if isinstance(stages, str) else tuple(stages)
    for name, key in keys.items():
        if name != name.upper():
            raise ValueError(f"config key {name}: names are in capitals")
        if name in _DECLARED:
            raise ValueError(f"config key {name} is declared twice")
        if key.rule is not None and not key.rule.allows(key.default):
            raise ValueError(f"config key {name}: the default {key.default!r} must {key.rule.text}")
        _DECLARED[name] = Declared(key, stages, owner)


def declared(*stages: str) -> dict[str, Declared]:
    """Every declared key of any of `stages` (none given: of all), by name, in the order of declaration."""
    return {name: item for name, item in _DECLARED.items() if not stages or set(stages) & set(item.stages)}
