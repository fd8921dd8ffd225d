"""Config keys, each declared once beside what reads it: default, meaning, rule and where it counts.

A declaration gives everything that is ever said about a key: its default in the config, the error for a value that its
rule refuses, its line in `--help` and in the generated reference, and whether its value says what a run computes.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from clop_det.errors import UserError

PRETRAINING, DETECTION, COMPARISON = "pretraining", "detection", "comparison"
BOTH = (PRETRAINING, DETECTION)


@dataclass(frozen=True)
class Rule:
    """What a value must satisfy.

    Attributes:
        text: completes "it must ...", e.g. "be at least 1".
        allows: whether a value satisfies the rule; a value that it cannot compare may raise TypeError.
        choices: the values themselves, where the rule is a list of them.
        remedy: what to do instead, a sentence; empty where the rule says it all.
    """

    text: str
    allows: Callable[[Any], bool]
    choices: tuple[Any, ...] = ()
    remedy: str = ""

    def refusal(self, name: str, value: Any) -> str | None:
        """The error for `value` of the key `name`, e.g. "SEED is -1; it must be at least 0."; None if it is allowed."""
        try:
            if self.allows(value):
                return None
        except TypeError:
            pass
        near = nearest(value, self.choices) if isinstance(value, str) else ""
        remedy = f" {self.remedy}" if self.remedy else ""
        return f"{name} is {value!r}; it must {self.text}.{near}{remedy}"


def at_least(low: float) -> Rule:
    """A number of at least `low`."""
    return Rule(f"be at least {low:g}", lambda value: value >= low)


def above(low: float) -> Rule:
    """A number above `low`."""
    return Rule(f"be above {low:g}", lambda value: value > low)


def whole(low: int) -> Rule:
    """A whole number of at least `low`; for the entries of lists, whose type nothing else fixes."""
    return Rule(
        f"be a whole number of at least {low}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= low,
    )


def between(low: float, high: float, ends: str = "[]") -> Rule:
    """A number between `low` and `high`; a round bracket in `ends` leaves that end out."""

    def allows(value: Any) -> bool:
        return bool(
            (low <= value if ends[0] == "[" else low < value) and (value <= high if ends[1] == "]" else value < high)
        )

    return Rule(f"lie in {ends[0]}{low:g}, {high:g}{ends[1]}", allows)


def one_of(*choices: Any) -> Rule:
    """One of a few values."""
    named = f"one of {', '.join(map(str, choices))}" if len(choices) > 1 else str(choices[0])
    return Rule(f"be {named}", lambda value: value in choices, choices)


def each(rule: Rule, least: int = 1) -> Rule:
    """A list of at least `least` entries, each of which satisfies `rule`."""
    return Rule(
        f"be a list of at least {least} {'value' if least == 1 else 'values'}, each of which must {rule.text}",
        lambda values: (
            isinstance(values, list | tuple) and len(values) >= least and all(rule.allows(value) for value in values)
        ),
    )


def rising_pair(rule: Rule) -> Rule:
    """Two numbers (low, high), low <= high, each of which satisfies `rule`."""
    return Rule(
        f"be two numbers (low, high), low <= high, each of which must {rule.text}",
        lambda pair: (
            isinstance(pair, list | tuple) and len(pair) == 2 and all(map(rule.allows, pair)) and pair[0] <= pair[1]
        ),
    )


def unless_none(rule: Rule) -> Rule:
    """None, or what satisfies `rule`."""
    return Rule(f"{rule.text}, or be None", lambda value: value is None or rule.allows(value))


def with_remedy(rule: Rule, remedy: str) -> Rule:
    """The rule, with a sentence behind its error that says what to do."""
    return replace(rule, remedy=remedy)


def nearest(name: object, known: Sequence[Any]) -> str:
    """ " Did you mean X?", or an empty string where nothing known is near."""
    match = difflib.get_close_matches(str(name), [str(item) for item in known], n=1, cutoff=0.5)
    return f" Did you mean {match[0]}?" if match else ""


@dataclass(frozen=True)
class Key:
    """One config key.

    Attributes:
        default: its value where nobody sets it; its type is the key's type. A mapping takes any keys of its own.
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
        module: dotted name of the module that declared it.
    """

    key: Key
    stages: tuple[str, ...]
    owner: tuple[str, str] | None = None
    module: str = ""


@dataclass(frozen=True)
class Constraint:
    """A rule of this package for one of Detectron2's own keys; `stages` as in `Declared`."""

    name: str
    rule: Rule
    stages: tuple[str, ...]


_DECLARED: dict[str, Declared] = {}
_CONSTRAINTS: list[Constraint] = []
_ABSENT = object()


def declare(
    stages: str | Sequence[str], keys: Mapping[str, Key], owner: tuple[str, str] | None = None, module: str = ""
) -> None:
    """Declare keys by their dotted names, e.g. {"LABELS.FRACTION": Key(0.1, "...", between(0, 1, "(]"))}.

    `module` is the calling module unless it declares them for another one.

    Raises:
        ValueError: a name is not in capitals, is declared already, or its default breaks its own rule.
    """
    stages = (stages,) if isinstance(stages, str) else tuple(stages)
    module = module or str(sys._getframe(1).f_globals.get("__name__", ""))
    for name, key in keys.items():
        if name != name.upper():
            raise ValueError(f"config key {name}: names are in capitals")
        if name in _DECLARED:
            raise ValueError(f"config key {name} is declared twice")
        if key.rule is not None and not key.rule.allows(key.default):
            raise ValueError(f"config key {name}: the default {key.default!r} must {key.rule.text}")
        _DECLARED[name] = Declared(key, stages, owner, module)


def constrain(stages: str | Sequence[str], rules: Mapping[str, Rule]) -> None:
    """Give Detectron2's own keys a rule in the runs of some stages, e.g. {"SOLVER.MAX_ITER": at_least(1)}."""
    stages = (stages,) if isinstance(stages, str) else tuple(stages)
    _CONSTRAINTS.extend(Constraint(name, rule, stages) for name, rule in rules.items())


def declared(*stages: str) -> dict[str, Declared]:
    """Every declared key of any of `stages` (none given: of all), by name, in the order of declaration."""
    return {name: item for name, item in _DECLARED.items() if not stages or set(stages) & set(item.stages)}


def constraints(*stages: str) -> list[Constraint]:
    """The rules for Detectron2's own keys in any of `stages` (none given: all)."""
    return [item for item in _CONSTRAINTS if not stages or set(stages) & set(item.stages)]


def check_rules(cfg: Mapping[str, Any], stage: str) -> None:
    """Check every value of a config that has a rule in `stage`: its own keys and Detectron2's.

    Raises:
        UserError: the first value that breaks its rule; names the key, the value, the rule and, where known, a remedy.
    """
    for name, rule in _rules(stage):
        value = value_of(cfg, name, _ABSENT)
        refusal = None if value is _ABSENT else rule.refusal(name, value)
        if refusal:
            raise UserError(refusal)


def _rules(stage: str) -> Iterator[tuple[str, Rule]]:
    yield from ((item.name, item.rule) for item in constraints(stage))
    yield from ((name, item.key.rule) for name, item in declared(stage).items() if item.key.rule is not None)


def value_of(cfg: Mapping[str, Any], name: str, absent: Any) -> Any:
    """The value of a dotted key in a config, or `absent`: the keys of a module that the config does not import."""
    node: Any = cfg
    for part in name.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return absent
        node = node[part]
    return node
