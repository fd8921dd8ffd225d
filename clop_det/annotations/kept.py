"""Checked data sets in the cache folder: made by the first process of a machine, read by all others and by later runs.

A kept data set is found by what it was made from: the content of its annotation file (of a folder of them the sizes and
times), the entry of DATASETS.REGISTER, the policies, and the code of this room. It also names every image that was
looked at, and counts only while none of them has another size or time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from clop_det.annotations.checked import check_table
from clop_det.annotations.checks import Checks, Policies, marks
from clop_det.annotations.table import Table
from clop_det.annotations.table_file import read_head, read_table, write_table
from clop_det.data.building import cache_folder, cache_lock
from clop_det.errors import UserError

_log = logging.getLogger(__name__)


class Source(Protocol):
    """A data set on disk."""

    def key(self) -> str:
        """A text that changes with what `read` gives, image files excepted."""

    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the class indices."""

    def metadata(self) -> dict[str, Any]:
        """What Detectron2's catalogue is to say of it, for JSON; the ids of categories as [id, class index]."""

    def read(self, checks: Checks) -> Table:
        """The images, by paths that may not exist, and annotations."""

    def find(self, path: str) -> str | None:
        """The file that an image's path means where there is none of that name."""


@dataclass(frozen=True)
class Loaded:
    """A checked data set.

    Attributes:
        table: what is left of it.
        checks: what was found.
        sha256: over what is left, see `Table.digest`.
    """

    table: Table
    checks: Checks
    sha256: str


def load(source: Source, name: str, policies: Policies) -> Loaded:
    """A data set, checked: from the cache folder, or read and put there.

    Raises:
        UserError: the source cannot be read. What the checks refuse is in `checks`.
    """
    key = _key(source, policies)
    with contextlib.ExitStack() as held:
        try:
            path = _path(key)
            kept = _kept(path, key, name, policies)
            if kept is not None:
                return kept
            held.enter_context(cache_lock(path))
        except UserError as error:  # a convenience, not a result
            _log.warning("%s will be read and checked again next time: %s", name, error)
            return _make(source, name, policies)[0]
        kept = _kept(path, key, name, policies)  # another process may have been first
        if kept is not None:
            return kept
        made, facts = _make(source, name, policies)
        if "missing_file" in made.checks.entries:  # another folder or spelling may hold it next time
            return made
        try:
            write_table(path, key, made.table, facts)
        except UserError as error:
            _log.warning("%s will be read and checked again next time: %s", name, error)
        return made


def metadata_of(source: Source, policies: Policies) -> dict[str, Any]:
    """What Detectron2's catalogue is to say of a source, from the cache folder if it is there.

    Raises:
        UserError: the source cannot be read.
    """
    key = _key(source, policies)
    head = read_head(_path(key), key)
    found: dict[str, Any] = source.metadata() if head is None else head["facts"]["metadata"]
    ids = {"thing_dataset_id_to_contiguous_id": dict(found["categories"])} if "categories" in found else {}
    return {key: value for key, value in found.items() if key != "categories"} | ids


def _path(key: str) -> Path:
    return cache_folder() / "data_sets" / f"{key[:32]}.table"


def _key(source: Source, policies: Policies) -> str:
    return hashlib.sha256(
        "\n".join((_code(), str(policies), str(Image.MAX_IMAGE_PIXELS), source.key())).encode("utf-8", "replace")
    ).hexdigest()


@cache
def _code() -> str:
    """SHA-256 over the modules of this room."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _kept(path: Path, key: str, name: str, policies: Policies) -> Loaded | None:
    if not path.exists():
        return None
    found = read_table(path, key)
    if found is None:
        _log.warning("%s is damaged or another file: %s is read and checked again", path, name)
        return None
    table, facts = found
    if marks([*table.images.file.tolist(), *facts["left_out"]]) != facts["marks"]:
        return None
    return Loaded(table, Checks(name, policies, **facts["checks"]), facts["sha256"])


def _make(source: Source, name: str, policies: Policies) -> tuple[Loaded, dict[str, Any]]:
    """The data set, read and checked, and what is kept beside its arrays."""
    checks = Checks(name, policies)
    table, looked_at = check_table(source.read(checks), source.classes(), checks, source.find)
    digest = table.digest(source.classes())
    files = table.images.file.tolist()
    left_out = sorted(set(looked_at) - set(files))
    facts = {
        "metadata": source.metadata(),
        "sha256": digest,
        "checks": {field.name: getattr(checks, field.name) for field in dataclasses.fields(checks)[2:]},
        "left_out": left_out,
        "marks": marks([*files, *left_out]),
    }
    return Loaded(table, checks, digest), facts
