"""The registry of methods: a name, a factory, and the options that become `METHOD.<NAME>.<OPTION>`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from clop_det.keys import PRETRAINING
from clop_det.methods.base import Method, MethodContext
from clop_det.registry import Explained, Registry, class_factory

Factory = Callable[[Mapping[str, Any], MethodContext], Method]
METHODS: Registry[Factory] = Registry("method", "METHOD", (PRETRAINING,), "METHOD.NAME")
M = TypeVar("M", bound=Callable[..., Method])


def register_method(name: str, options: Mapping[str, Explained] | None = None) -> Callable[[M], M]:
    """Register a class of `Method` under `name`.

    Args:
        name: lower case; the value of the config key METHOD.NAME.
        options: option name (capitals) -> its help or (help, rule), one for every argument of the constructor but
            `context`, the `MethodContext`; the defaults are those of the signature.

    Raises:
        UserError: the name is taken, a name is not in the expected case, or the options do not fit the constructor.
    """

    def decorate(thing: M) -> M:
        factory, keys = class_factory(thing, options or {}, {"context": lambda context: context})
        METHODS.register(name, keys)(factory)
        return thing

    return decorate
