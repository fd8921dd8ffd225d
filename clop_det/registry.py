"""The one form of registry: a name, what is registered, and its own options as config keys.

What the package ships is registered in the same way as what a user brings. The options of an entry become the config
keys `<GROUP>.<NAME>.<OPTION>`.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from clop_det.errors import UserError
from clop_det.keys import Key, Rule, declare, nearest

T = TypeVar("T")
# What is said of an option of a class: its help, or (help, rule), where the signature gives the default; or all of it.
Explained = str | tuple[str, Rule] | Key


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
            declare(self.stages, {prefix + option: key for option, key in own.items()}, (self.kind, name), module)
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
            raise UserError(
                f"{self.key} names the {self.kind} {name!r}, which is not registered.{nearest(name, self.names())}"
                f" Known are {', '.join(self.names())}; IMPORTS names the modules that register more."
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
        names = self.listed(value)
        return names if all(name in self for name in names) else self.names()

    def listed(self, value: Any) -> list[str]:
        """The names that a value of `key` lists, registered or not."""
        return [] if value is None else [value] if isinstance(value, str) else list(value)

    def options(self, name: str, cfg: Any) -> dict[str, Any]:
        """The values of an entry's options in a config, by option name; UserError as `entry`."""
        node = cfg
        entry = self.entry(name)
        for part in (*self.group.split("."), name.upper()) if entry.options else ():
            node = node[part]
        return {option: node[option] for option in entry.options}


def class_factory(
    thing: Callable[..., T], explained: Mapping[str, Explained], supplied: Mapping[str, Callable[[Any], Any]]
) -> tuple[Callable[[Mapping[str, Any], Any], T], dict[str, Key]]:
    """A factory `(options, context) -> thing(...)` for a class, and its options as keys.

    An option is an argument of the constructor, named like it in capitals, with the default of the signature.

    Args:
        thing: the class.
        explained: option name -> help, or (help, rule), or a whole `Key`.
        supplied: arguments that are no options -> how the context gives them; passed where the constructor has them.

    Raises:
        UserError: an argument that is not explained or has no default, or an explanation without an argument.
    """
    arguments = inspect.signature(thing).parameters
    given = {name: get for name, get in supplied.items() if name in arguments}
    own = {name.upper(): argument for name, argument in arguments.items() if name not in given}
    wrong = sorted(set(own) ^ set(explained))
    keys = {name: _option(own[name].default, explained[name]) for name in own if name in explained}
    wrong += [name for name, key in keys.items() if key.default is inspect.Parameter.empty]
    if wrong:
        raise UserError(
            f"the class {thing.__module__}.{thing.__qualname__} cannot be registered because of {', '.join(wrong)}."
            f" Every argument of its constructor except {', '.join(supplied)} is an option: give it a default, and"
            " explain it under its name in capitals."
        )

    def build(options: Mapping[str, Any], context: Any) -> T:
        return thing(
            **{name: get(context) for name, get in given.items()},
            **{name.lower(): value for name, value in options.items()},
        )

    build.__module__, build.__qualname__ = thing.__module__, thing.__qualname__
    return build, keys


def _option(default: Any, said: Explained) -> Key:
    if isinstance(said, Key):
        return said
    return Key(default, said) if isinstance(said, str) else Key(default, *said)


def in_use(cfg: Any, stage: str, strict: bool = False) -> dict[tuple[str, str], Entry[Any]]:
    """What a run of `stage` under `cfg` uses of every registry: (kind, name) -> entry, sorted.

    An entry is in use if the key of its registry names it, or an option of an entry in use does (see `Key.names`).

    Args:
        strict: refuse a name that is not registered (UserError); otherwise all entries of its kind count.
    """
    registries = [registry for registry in _REGISTRIES if stage in registry.stages]
    waiting = [(registry, _value(cfg, registry.key)) for registry in registries]
    found: dict[tuple[str, str], Entry[Any]] = {}
    while waiting:
        registry, value = waiting.pop()
        for name in registry.listed(value) if strict else registry.named_by(value):
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
