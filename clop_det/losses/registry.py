"""One registry for all losses: a name, a factory, and the options that become the config keys `LOSS.<NAME>.<OPTION>`.

A new loss is one file in this folder, or a module that IMPORTS names, with one `@register_loss`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeVar

from clop_det.keys import PRETRAINING, Key
from clop_det.losses.base import Loss
from clop_det.registry import Explained, Registry, class_factory


@dataclass(frozen=True)
class LossContext:
    """What a factory may need beyond its own options.

    Attributes:
        num_classes: K, number of classes.
        embedding_dim: d, width of the projector's output.
        build: builds another registered loss by name with the same settings (the base of CLOP).
    """

    num_classes: int
    embedding_dim: int
    build: Callable[[str], Loss]


Factory = Callable[[Mapping[str, Any], LossContext], Loss]
LOSSES: Registry[Factory] = Registry("loss", "LOSS", (PRETRAINING,), "LOSS.NAME")
_SUPPLIED = {name: attrgetter(name) for name in ("num_classes", "embedding_dim")}
L = TypeVar("L", bound=Callable[..., Loss])


def register_loss(name: str, options: Mapping[str, Explained] | None = None) -> Callable[[L], L]:
    """Register a loss under `name`: a class of `Loss`, or a factory `(options, context) -> Loss`.

    Args:
        name: lower case; the value of the config key LOSS.NAME.
        options: of a class: option name (capitals) -> its help or (help, rule), one for every argument of the
            constructor but `num_classes` and `embedding_dim`, which it gets where it asks for them; the defaults are
            those of the signature. Of a factory: option name -> `Key`; it gets a value for every one of them.

    Raises:
        UserError: the name is taken, a name is not in the expected case, or the options do not fit the constructor.
    """

    def decorate(thing: L) -> L:
        if isinstance(thing, type):
            factory, keys = class_factory(thing, options or {}, _SUPPLIED)
            LOSSES.register(name, keys)(factory)
        else:
            LOSSES.register(name, options)(thing)  # type: ignore[arg-type]
        return thing

    return decorate


def loss_names() -> list[str]:
    """Names of all registered losses, sorted."""
    return LOSSES.names()


def loss_options() -> dict[str, dict[str, Key]]:
    """Options of every registered loss: loss name -> option name -> `Key`."""
    return {name: dict(LOSSES.entry(name).options) for name in loss_names()}


def build_loss(name: str, options: Mapping[str, Mapping[str, Any]], num_classes: int, embedding_dim: int) -> Loss:
    """Build a registered loss.

    Args:
        name: a name of `loss_names()`.
        options: loss name (either case) -> option name -> value. Options left out take their default. Entries of other
            losses are read only if `name` builds on them.
        num_classes: K, at least 1.
        embedding_dim: d, at least 1.

    Raises:
        ValueError: unknown loss or option, or a value that the loss refuses; names argument, value and rule.
    """
    for argument, value in (("num_classes", num_classes), ("embedding_dim", embedding_dim)):
        if value < 1:
            raise ValueError(f"{argument}={value}: must be at least 1")
    entry = LOSSES.entry(name)

    def build(base: str) -> Loss:
        return build_loss(base, options, num_classes, embedding_dim)

    given = options.get(name, options.get(name.upper(), {}))
    unknown = sorted(set(given) - set(entry.options))
    if unknown:
        raise ValueError(
            f"options={unknown}: loss {name!r} has no such option; it has {', '.join(entry.options) or 'none'}"
        )
    values = {option: given.get(option, declared.default) for option, declared in entry.options.items()}
    return entry.thing(values, LossContext(num_classes, embedding_dim, build))
