"""Config keys that were renamed or removed: what a config of an earlier version has to say instead."""

from __future__ import annotations

# Old key, or old group of keys -> the rest of the sentence "<old key> ...": what changed, and what to do. For example
# "PROBE.OLD": "is called PROBE.NEW since version 0.2; rename it.",
_RENAMED = {
    "PROBE.KNN_K": "PROBE.KNN.K",
    "PROBE.KNN_TEMPERATURE": "PROBE.KNN.TEMPERATURE",
    "PROBE.MAX_OBJECTS": "PROBE.OBJECTS.MAX",
    "PROBE.OBJECT_SIZE": "PROBE.OBJECTS.SIZE",
}
CHANGED: dict[str, str] = {old: f"is called {new} since version 0.2.0; rename it." for old, new in _RENAMED.items()}


def change_of(name: str) -> str:
    """What became of a key that is unknown now, as the rest of a sentence; "" if it never existed."""
    while name:
        if name in CHANGED:
            return CHANGED[name]
        name = name.rpartition(".")[0]
    return ""
