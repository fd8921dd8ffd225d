"""Files appear whole or not at all: temporary file in the same folder, fsync, rename."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from clop_det.errors import UserError

StrPath = str | os.PathLike[str]


@contextmanager
def atomic_write(path: StrPath) -> Iterator[BinaryIO]:
    """Open `path` for binary writing; it appears, complete and synced, only when the block ends without an exception.

    Raises:
        UserError: the folder cannot be created or written to, or the disk is full. A file that was at `path` before
            stays as it was.
    """
    path = Path(path)
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes the file private; give it the permissions that an ordinary open() would have given.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
        sync(path.parent)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}. Free space or choose another folder."
        ) from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def write_text(path: StrPath, text: str) -> None:
    """Write `text` (UTF-8) to `path`, whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", "surrogateescape"))  # names of files need not be UTF-8


def write_json(path: StrPath, value: Any) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, sort_keys=False) + "\n")


def read_json(path: StrPath) -> Any:
    """Read a JSON file.

    Raises:
        UserError: it does not exist, is no ordinary file, or is not JSON (or nested a thousand deep).
    """
    check_ordinary(path)
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError as error:
        raise UserError(f"cannot read {path} as JSON: it is nested too deeply.") from error
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path} as JSON: {error}") from error


def check_ordinary(path: StrPath) -> None:
    """Raise for a path at which reading may never end: a pipe, a socket, a device.

    Raises:
        UserError: it is one. What is missing, or a folder, is left to the one who opens it.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise UserError(f"{path} is no ordinary file but a pipe, socket or device. Give a file.")


def open_ordinary(path: StrPath, buffering: int = -1) -> Any:
    """Open a file to read its bytes; `buffering` as `open` has it.

    Raises:
        OSError: it is absent; or a pipe, a socket or a device, at which opening or reading may never end.
    """
    file = open(path, "rb", buffering, opener=_at_once)  # noqa: SIM115  (the caller closes it)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "no ordinary file but a pipe, socket or device", str(path))
    return file


def read_ordinary(path: StrPath) -> bytes:
    """All bytes of a file; OSError as `open_ordinary`."""
    with open_ordinary(path) as file:
        content: bytes = file.read()
    return content


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe without a writer, too


def sha256_of(path: StrPath) -> str:
    """SHA-256 of a file's content, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sync(path: StrPath) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
