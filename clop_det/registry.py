"""The one form of registry: a name, what is registered, and its own options as config keys.

What the package ships is registered in the same way as what a user brings. The options of an entry become the config
keys `<GROUP>.<NAME>.<OPTION>`.
"""

from __future__ import annotations

import difflib
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from clop_det.errors import UserError
from clop_det.keys import Key, declare

T = TypeVar("T")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A registered thing.

    Attributes:
        name: lower case; the value by which a config names it.
        thing: what was registered.
        options: option name in capitals -> its config key.
        module: dotted name of the module that registered it.
    """

    name: str
    thing: T
    options: dict[str, Key]
    module: str


_REGISTRIES: weakref.WeakSet[Registry[Any]] = weakref.WeakSet()


class Registry(Generic[T]):
    """Things of one kind by name.

    Args:
        kind: what an entry is called in messages, e.g. "loss".
        group: config group of the entries' options, e.g. "LOSS".
        stages: whose runs read these options (see `clop_det.keys`).
        key: the config key that names entries, for messages, e.g. "LOSS.NAME".
    """

    def __init__(self, kind: str, group: str, stages: Sequence[str], key: str) -> None:
        self.kind, self.group, self.stages, self.key = kind, group, tuple(stages), key
        self._entries: dict[str, Entry[T]] = {}
        _REGISTRIES.add(self)

    def register(self, name: str, options: Mapping[str, Key] | None = None) -> Callable[[T], T]:
        """A decorator that registers what it decorates under `name`.

        Raises:
            UserError: the name is taken (both modules are named) or not in lower case, or an option is not in capitals.
        """

        def decorate(thing: T) -> T:
            own = dict(options or {})
            module = str(getattr(thing, "__module__", type(thing).__module__))
            if name in self._entries:
                raise UserError(
                    f"the {self.kind} {name!r} of {module} is registered already, by {self._entries[name].module}."
                    " Choose another name."
                )
            if name != name.lower() or any(option != option.upper() for option in own):
                raise UserError(
                    f"the {self.kind} {name!r} of {module} has the options {', '.join(own) or 'none'}: names are in"
                    " lower case, options in capitals."
                )
            prefix = f"{self.group}.{name.upper()}."
            declare(self.stages, {prefix + option: key for option, key in own.items()}, (self.kind, name))
            self._entries[name] = Entry(name, thing, own, module)
            return thing

        return decorate

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted(self._entries)

    def entry(self, name: str) -> Entry[T]:
        """The entry called `name`.

        Raises:
            UserError: there is none; the nearest name and all names are given.
        """
        if name not in self._entries:
            near = difflib.get_close_matches(str(name), self._entries, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UserError(
                f"{self.key} names the {self.kind} {name!r}, which is not registered.{hint} Known are"
                f" {', '.join(self.names())}; IMPORTS names the modules that register more."
            )
        return self._entries[name]

    def __getitem__(self, name: str) -> T:
        return self.entry(name).thing

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def named_by(self, value: Any) -> list[str]:
        """Names of the entries that a value of `key` stands for: one name or several; all, if it is no entry's name.

        A registry whose key takes other names than those of its entries says here which they belong to.
        """
        names = [] if value is None else [value] if isinstance(value, str) else list(value)
        return names if all(name in self for name in names) else self.names()

    def options(self, name: str, cfg: Any) -> dict[str, Any]:
        """The values of an entry's options in a config, by option name; UserError as `entry`."""
        node = cfg
        entry = self.entry(name)
        for part in (*self.group.split("."), name.upper()) if entry.options else ():
            node = node[part]
        return {option: node[option] for option in entry.options}


def in_use(cfg: Any, stage: str) -> dict[tuple[str, str], Entry[Any]]:
    """What a run of `stage` under `cfg` uses of every registry: (kind, name) -> entry, sorted.

    An entry is in use if the key of its registry names it, or an option of an entry in use does (see `Key.names`).
    """
    registries = [registry for registry in _REGISTRIES if stage in registry.stages]
    waiting = [(registry, _value(cfg, registry.key)) for registry in registries]
    found: dict[tuple[str, str], Entry[Any]] = {}
    while waiting:
        registry, value = waiting.pop()
        for name in registry.named_by(value):
            if (registry.kind, name) in found:
                continue
            entry = found[registry.kind, name] = registry.entry(name)
            waiting += [
                (other, _value(cfg, f"{registry.group}.{name.upper()}.{option}"))
                for option, key in entry.options.items()
                for other in registries
                if key.names == other.kind
            ]
    return dict(sorted(found.items()))


def registers(module: str) -> bool:
    """Whether a module has registered something in any registry."""
    return any(registry.entry(name).module == module for registry in _REGISTRIES for name in registry.names())


def _value(cfg: Any, key: str) -> Any:
    """The value of a dotted key; None if a config has none of that name."""
    for part in key.split("."):
        cfg = cfg.get(part) if isinstance(cfg, Mapping) else None
    return cfg
