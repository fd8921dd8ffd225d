"""What a comparison takes over from its `_BASE_`: paths stay those of the file that holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_SEED = "{seed}"


def from_base(values: dict[str, Any], file: Path) -> None:
    """Make the values of a base file, in place, such that they mean in another file what they mean in their own.

    A path that leads to a file beside `file` becomes that file's; any other is looked up as it stands.
    """
    compare = values.get("COMPARE")
    if not isinstance(compare, dict):
        return
    for entry, key in (
        *_entries(compare.get("INITS"), ("CHECKPOINT", "FROM")),
        *_entries(compare.get("DETECTION"), ("CONFIG",)),
        *_entries([compare.get("PRETRAIN")], ("CONFIG",)),
        *_entries([compare.get("INITS_FROM")], ("RANKING",)),
    ):
        entry[key] = _beside(entry[key], file.parent)
    if isinstance(compare.get("DETECTION"), list):
        compare["DETECTION"] = [
            _beside(item, file.parent) if isinstance(item, str) else item for item in compare["DETECTION"]
        ]
    if isinstance(compare.get("DESCRIPTION"), str) and compare["DESCRIPTION"]:
        compare["DESCRIPTION"] += f" (Description of {file.name}, which this comparison changes.)"


def _entries(items: Any, keys: tuple[str, ...]) -> list[tuple[dict[str, Any], str]]:
    """(mapping, key) wherever one of the mappings has one of the keys as a text."""
    mappings = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    return [(item, key) for item in mappings for key in keys if isinstance(item.get(key), str) and item[key]]


def _beside(name: str, folder: Path) -> str:
    path = folder / Path(name).expanduser()
    if _SEED in name:
        found = bool(path.parent.is_dir() and list(path.parent.glob(path.name.replace(_SEED, "*"))))
    else:
        found = path.is_file()
    return str(path.resolve()) if found else name
