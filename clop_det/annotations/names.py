"""File names as annotation files write them, and the files that they mean."""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

_DATE = r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
_UPLOAD = re.compile(rf"^(?!{_DATE}-)[0-9a-f]{{8}}-(?=.)")


def leads_out(name: str) -> bool:
    """Whether a file name from an annotation file leads out of its folder."""
    return name.startswith("/") or "\x00" in name or (".." in name and ".." in name.split("/"))


def without_upload(name: str) -> str:
    """A file name without what Label Studio puts before the names of uploaded files: eight hex digits and a dash.

    Digits that are a day (20230101) stay: cameras write them, and one in 60,000 prefixes of Label Studio.
    """
    folder, slash, last = name.rpartition("/")
    return folder + slash + _UPLOAD.sub("", last)


def uploads(names: Iterable[str]) -> dict[str, str]:
    """Name without the prefix of an upload -> the name; those that are another's without its prefix are left out."""
    found: dict[str, str] = {}
    twice = set()
    for name in names:
        plain = without_upload(name)
        if found.setdefault(plain, name) != name:
            twice.add(plain)
    return {plain: name for plain, name in found.items() if plain not in twice}


def find_upload(name: str, known: Mapping[str, str]) -> str | None:
    """The one of the names in `known` (see `uploads`) that has the prefix of an upload where `name` has none, or none.

    Label Studio renames what is uploaded; its exports may lie beside the images under either name.
    """
    plain = without_upload(name)
    other = known.get(plain)
    return other if other != name and plain in (name, other) else None


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


def files_below(folder: Path, suffixes: Sequence[str]) -> dict[str, str]:
    """Name without ending, relative to `folder`, -> file; endings in any case, earlier ones of `suffixes` win."""
    found: dict[str, tuple[int, str]] = {}
    ranks = {suffix: i for i, suffix in enumerate(suffixes)}
    places = [(str(folder), "")]
    while places:
        place, prefix = places.pop()
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                stem, _, ending = entry.name.rpartition(".")
                rank = ranks.get(f".{ending.lower()}", -1) if stem else -1
                if rank >= 0 and entry.is_file():
                    key = prefix + stem
                    if key not in found or rank < found[key][0]:
                        found[key] = (rank, entry.path)
                elif entry.is_dir(follow_symlinks=False):
                    places.append((entry.path, f"{prefix}{entry.name}/"))
    return {key: path for key, (_, path) in sorted(found.items())}
