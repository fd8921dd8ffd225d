"""SHA-256 sidecars: `model.pth.sha256` beside `model.pth`, in the format of the `sha256sum` command.

A flipped byte in a torch checkpoint loads silently, so what we write carries its digest and what we read is checked.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch

from clop_det.errors import UserError
from clop_det.files import atomic_write, check_ordinary, sha256_of, write_text

_DIGEST = re.compile(r"\b[0-9a-fA-F]{64}\b")


def sidecar_of(path: Path) -> Path:
    """The sidecar's path: the file's name with `.sha256` behind it."""
    return path.with_name(path.name + ".sha256")


class _DigestingWriter:
    """Passes bytes on and digests them on the way: the digest is of what was meant, not of what the disk gave back."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.failure: OSError | None = None

    def write(self, data: Any) -> int:
        self._digest.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        self._file.flush()

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


@contextmanager
def digested_write(path: Path) -> Iterator[BinaryIO]:
    """Like `files.atomic_write` for a sequential writer, and leaves a sidecar.

    Raises:
        UserError: the folder cannot be written to.
    """
    with atomic_write(path) as file:
        writer = _DigestingWriter(file)
        try:
            yield cast(BinaryIO, writer)
        except RuntimeError:
            # torch.save closes its archive on the way out, and then complains of that instead of the disk.
            if writer.failure is not None:
                raise writer.failure from None
            raise
        # A crash between the two renames must not leave the new file beside the old digest: without a sidecar the file
        # is still checked by the checksums inside it.
        sidecar_of(path).unlink(missing_ok=True)
    write_text(sidecar_of(path), f"{writer.hexdigest()}  {path.name}\n")


def save_torch(value: Any, path: Path) -> None:
    """`torch.save`, whole or not at all, with a sidecar.

    Raises:
        UserError: the folder cannot be written to.
    """
    with digested_write(path) as file:
        torch.save(value, cast(IO[bytes], file))


def note_digest(path: Path, digest: str) -> bool:
    """Write a sidecar for a file that has none, so that a later change of the file is found; False: it cannot be.

    Args:
        path: somebody's file.
        digest: its SHA-256.
    """
    try:
        if not sidecar_of(path).exists():
            write_text(sidecar_of(path), f"{digest}  {path.name}\n")
    except (UserError, OSError):
        return False
    return True


def _digest_in(text: str, name: str) -> str:
    """The digest of the file `name` in a sidecar as `sha256sum` or BSD's `sha256` writes it.

    Raises:
        ValueError: there is none.
    """
    lines = [line for line in text.splitlines() if _DIGEST.search(line)]
    of_file = [line for line in lines if name in _DIGEST.sub("", line)] if len(lines) > 1 else lines
    if not of_file:
        raise ValueError("no digest")
    return _DIGEST.findall(of_file[0])[0].lower()  # type: ignore[no-any-return]


def why_damaged(path: Path) -> str | None:
    """Why the file cannot be what was written, or None if nothing speaks against it.

    With a sidecar: its digest. Without: the checksums that the zip format of torch files carries; files of other
    formats without a sidecar cannot be checked, and pass.
    """
    for file in (path, sidecar_of(path)):
        check_ordinary(file)
    try:
        expected = _digest_in(sidecar_of(path).read_text(encoding="utf-8"), path.name)
    except FileNotFoundError:
        expected = ""
    except (OSError, ValueError):
        return f"its sidecar {sidecar_of(path).name} is unreadable"
    try:
        if expected:
            actual = sha256_of(path)
            return None if actual == expected else f"SHA-256 is {actual[:12]}..., its sidecar says {expected[:12]}..."
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                bad = archive.testzip()
            return None if bad is None else f"the checksum of its part {bad} does not fit"
    except (OSError, zipfile.BadZipFile, RuntimeError, EOFError, ValueError, zlib.error) as error:
        return f"{type(error).__name__}: {error}"
    return None


def check_integrity(path: Path) -> None:
    """Raise unless the file is what was written.

    Raises:
        UserError: see `why_damaged`.
    """
    reason = why_damaged(path)
    if reason is not None:
        raise UserError(
            f"{path} is damaged: {reason}. Copy it again, or use another checkpoint"
            f" (delete {sidecar_of(path).name} only if you changed the file on purpose)."
        )
