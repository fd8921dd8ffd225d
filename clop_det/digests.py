"""Digests of what runs read, each computed once, wherever it lies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clop_det.errors import UserError
from clop_det.files import sha256_of

UNREAD = "not read"


class Digests:
    """Remembers digests for as long as it lives (one planning), and what could not be read.

    Attributes:
        problems: what could not be read -> why; its digest is `UNREAD`.
    """

    def __init__(self) -> None:
        self._files: dict[Path, str] = {}
        self._known: dict[str, str] = {}
        self.problems: dict[str, str] = {}

    def of_file(self, path: Path) -> str:
        """SHA-256 of a file; OSError if it cannot be read."""
        path = path.resolve()
        if path not in self._files:
            self._files[path] = sha256_of(path)
        return self._files[path]

    def of_given(self, key: str, path: str) -> str:
        """SHA-256 of the file that a config key names; UserError if there is none."""
        try:
            return self.of_file(Path(path))
        except OSError as error:
            raise UserError(f"no file {path}: {key} must name a file that can be read.") from error

    def of(self, what: str, key: Any, make: Callable[[], Any]) -> str:
        """The digest of the JSON-able value of `make()`, called once for each `key` (JSON-able, too).

        Args:
            what: how what is read is called in `problems`, if `make` raises UserError or OSError.
        """
        name = digest([what, key])
        if name not in self._known:
            try:
                self._known[name] = digest(make())
            except (UserError, OSError) as error:
                self.problems[what] = str(error)
                self._known[name] = UNREAD
        return self._known[name]


def digest(value: Any) -> str:
    """SHA-256 of a JSON-able value; arrays count with all their elements, bytes as Latin-1, paths as text."""
    text = json.dumps(value, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
