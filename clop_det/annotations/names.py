"""File names as annotation files write them, and the files that they mean."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote


def leads_out(name: str) -> bool:
    """Whether a file name from an annotation file leads out of its folder."""
    return name.startswith("/") or "\x00" in name or (".." in name and ".." in name.split("/"))


def spellings(name: str) -> Iterator[str]:
    """Other ways to write a file name that stays in its folder: as Windows, a URL or another system writes it."""
    seen = {name}
    for plain in (name, unquote(name, errors="strict") if "%" in name and _is_text(name) else name):
        for path in (plain, plain.replace("\\", "/").removeprefix("./")):
            stem, suffix = os.path.splitext(path)
            for ending in (suffix, suffix.lower(), suffix.upper()):
                for form in ("", "NFC", "NFD"):
                    other = unicodedata.normalize(form, stem + ending) if form else stem + ending  # type: ignore[arg-type]
                    if other not in seen and not leads_out(other):
                        seen.add(other)
                        yield other


def _is_text(name: str) -> bool:
    try:
        unquote(name, errors="strict")
    except UnicodeDecodeError:
        return False
    return True


def find_file(folder: Path, name: str) -> Path | None:
    """The file in `folder` that `name` means in another spelling; None if there is none."""
    return next((folder / other for other in spellings(name) if os.path.isfile(folder / other)), None)
