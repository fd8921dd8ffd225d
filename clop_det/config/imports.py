"""IMPORTS: modules that a user brings, imported before a config is checked, in every process that uses the config.

An import runs code. `clop_det.config.reading` decides which entries are honoured; `clop_det.config.imported` says what
belongs to an entry once it is imported.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from clop_det.errors import UserError
from clop_det.keys import BOTH, COMPARISON, Key, declare, nearest

KEY = "IMPORTS"
ENTRY_POINTS = "clop_det"  # the group by which installed packages announce modules

declare(
    (*BOTH, COMPARISON),
    {
        KEY: Key(
            [],
            "Modules of yours that are imported before the config is checked, in every process: dotted names"
            " (my_losses) or files (../lab/heads.py), relative to the YAML file that names them, on the command line to"
            " the working directory. Those of a _BASE_, of the file and of the command line are joined.",
            content=False,
        )
    },
)


@dataclass(frozen=True)
class Import:
    """One resolved entry.

    Attributes:
        entry: a dotted name, or the absolute path of a file.
        origin: where it was named, for messages, e.g. "IMPORTS of configs/x.yaml".
        folder: relative files of this origin lie here.
    """

    entry: str
    origin: str
    folder: Path

    @property
    def file(self) -> Path | None:
        """The file, or None for a dotted name."""
        return Path(self.entry) if self.entry.endswith(".py") else None


# Entry -> where it was named last, and its module; everything that this process imported for any config.
IMPORTED: dict[str, tuple[Import, ModuleType]] = {}


def resolved(entries: Any, folder: Path, origin: str) -> list[Import]:
    """The entries of one origin; a single string is a list of one.

    Raises:
        UserError: not a list of strings, an entry that is neither a dotted name nor a .py file, no such file.
    """
    entries = [entries] if isinstance(entries, str) else entries
    if not isinstance(entries, list | tuple) or not all(isinstance(entry, str) for entry in entries):
        raise UserError(f"{origin} is {entries!r}; it must be a list of modules, as [my_losses, ../lab/heads.py].")
    return [Import(_resolve(entry, folder, origin), origin, folder) for entry in entries]


def bring_in(imports: Sequence[Import]) -> list[str]:
    """Import what is not imported yet, in order, after what installed packages announce.

    Returns:
        the entries, each once: the value of the config key IMPORTS.

    Raises:
        UserError: a module that does not exist, raises, or has a name that is taken; names path, line and reason.
    """
    import_announced()
    for item in imports:
        known = IMPORTED.get(item.entry)
        IMPORTED[item.entry] = (item, known[1] if known else _import(item))
    return list(dict.fromkeys(item.entry for item in imports))


def import_again(cfg: Mapping[str, Any]) -> None:
    """Import what a config names, in a process that was handed the config and did not read it."""
    bring_in([Import(entry, f"{KEY} of the config", Path()) for entry in cfg[KEY]])


def import_lines(entries: Sequence[str]) -> list[str]:
    """Lines for a person: what was imported, and where it was named."""
    return [f"imports: {entry} ({IMPORTED[entry][0].origin})" for entry in entries]


@cache
def import_announced() -> None:
    """Import the modules that installed packages announce by the entry point group `clop_det`.

    Raises:
        UserError: one cannot be imported; names the package.
    """
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except (Exception, SystemExit) as error:
            package = point.dist.name if point.dist else "an installed package"
            raise UserError(
                f"the installed package {package} announces {point.value} for clop_det (entry point {point.name!r}),"
                f" which cannot be imported: {_reason(error, None)}. Repair or uninstall {package}."
            ) from error


def _resolve(entry: str, folder: Path, origin: str) -> str:
    if not entry.endswith(".py"):
        if all(part.isidentifier() for part in entry.split(".")):
            return entry
        raise UserError(f"{origin} names {entry!r}; it must be a dotted module or a file that ends in .py.")
    path = (folder / Path(entry).expanduser()).resolve()
    if not path.is_file():
        beside = [item.name for item in path.parent.glob("*.py")]
        raise UserError(f"{origin} names {entry}, but there is no file {path}.{nearest(path.name, beside)}")
    if not path.stem.isidentifier():
        raise UserError(f"{origin} names {path}, whose name is no module's; rename it (letters, digits and _ only).")
    return str(path)


def _import(item: Import) -> ModuleType:
    path = item.file
    try:
        with _no_byte_code():
            return importlib.import_module(item.entry) if path is None else _import_file(path)
    except _NameTaken as error:
        raise UserError(f"{item.origin} names {item.entry}, but {error}") from error
    except ModuleNotFoundError as error:
        if path is None and error.name and f"{item.entry}.".startswith(f"{error.name}."):
            file = f"{item.entry.replace('.', '/')}.py"
            hint = f"write {file}" if (item.folder / file).is_file() else "install it, or name its file"
            raise UserError(
                f"{item.origin} names {item.entry}, but there is no module {error.name}; {hint}."
            ) from error
        raise _refusal(item, error) from error
    except (Exception, SystemExit) as error:
        raise _refusal(item, error) from error


class _NameTaken(Exception):
    """A file's module name is that of another module."""


def _import_file(path: Path) -> ModuleType:
    """Import a file under its stem, its folder at the end of sys.path: processes that unpickle its objects find it."""
    folder, added = str(path.parent), str(path.parent) not in sys.path
    if added:
        sys.path.append(folder)
    importlib.invalidate_caches()
    try:
        spec = importlib.util.find_spec(path.stem)
        found = spec.origin if spec else None
    except ValueError:  # a module without a spec: __main__
        found = None
    if found is None or Path(found).resolve() != path:
        if added:
            sys.path.remove(folder)
        raise _NameTaken(f"{path.stem} is also the name of the module {found or 'of that name'}; rename the file.")
    return importlib.import_module(path.stem)


@contextmanager
def _no_byte_code() -> Iterator[None]:
    """Within, imports leave no __pycache__ in a user's folders, which might also be out of date within a second."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _refusal(item: Import, error: BaseException) -> UserError:
    return UserError(f"{item.entry} ({item.origin}) cannot be imported: {_reason(error, item.file)}")


def _reason(error: BaseException, file: Path | None) -> str:
    """Line of the user's code, type and text of an error, in one line."""
    text = " ".join(str(error).split())
    text = text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: {text}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        own = Path(frame.filename).parent == file.parent if file else not _is_ours(frame.filename)
        if own:
            return f"{frame.filename}, line {frame.lineno}: {text}"
    return text


def _is_ours(filename: str) -> bool:
    return (
        filename.startswith("<")
        or Path(filename).is_relative_to(Path(__file__).parents[1])
        or (Path(filename).parent == Path(importlib.__file__).parent)
    )
