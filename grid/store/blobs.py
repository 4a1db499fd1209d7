"""Durable files: written beside, hashed on the way, renamed into place whole.

What `commit` returned is on disk under its name, whatever happens next. What was not committed is
swept away at the next start, unless a living process still writes it.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from grid.wire.problems import Full, NotFound, TooLarge

DRAFTS = ".drafts"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Draft:
    """A file that is being written. Blocks go to the page cache and into the SHA-256; nothing is kept in memory.

    It is locked for as long as its process lives, which is how a sweep knows it from an orphan.
    """

    def __init__(self, blobs: Path, limit: int | None) -> None:
        self._blobs, self._limit = blobs, limit
        handle, self.path = _locked(blobs / DRAFTS)
        self._handle: int | None = handle
        self._hash = hashlib.sha256()
        self._committing = False
        self.size = 0

    @property
    def digest(self) -> str:
        """SHA-256 of what was written so far, hexadecimal."""
        return self._hash.hexdigest()

    def write(self, block: bytes | bytearray | memoryview) -> None:
        """Append a block.

        Raises:
            TooLarge: the draft would have more bytes than its limit.
            Full: the disk is.
        """
        view = memoryview(block).cast("B")
        if self._limit is not None and self.size + view.nbytes > self._limit:
            raise TooLarge(f"more than {self._limit} bytes")
        self._hash.update(view)
        self.size += view.nbytes
        with _disk():
            while view.nbytes:
                view = view[os.write(self._open(), view) :]

    async def commit(self, name: str | None = None) -> Path:
        """Make the file durable under `name`, or under its digest; its path. What had the name is replaced.

        Once it has begun it runs to its end, whether or not its caller still waits. Raises Full.
        """
        target = named_path(self._blobs, name) if name else blob_path(self._blobs, self.digest)
        self._committing = True
        return await asyncio.to_thread(self._commit, target)

    def abort(self) -> None:
        """Throw the draft away; after a commit, or a second time, nothing happens."""
        if self._handle is not None and not self._committing:
            self.path.unlink(missing_ok=True)
            self._close()

    def _commit(self, target: Path) -> Path:
        try:
            with _disk():
                os.fsync(self._open())
                _folder(target.parent)
                self.path.rename(target)
                _sync(target.parent)
        except BaseException:
            self._committing = False
            raise
        self.path = target
        self._close()
        return target

    def _open(self) -> int:
        if self._handle is None:
            raise ValueError("this draft is committed or aborted")
        return self._handle

    def _close(self) -> None:
        os.close(self._open())
        self._handle = None


class Blobs:
    """A folder of durable files (0600 in folders of 0700), by digest or by name; several processes may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        _folder(folder / DRAFTS)
        _sweep(folder / DRAFTS)

    def create(self, limit: int | None = None) -> Draft:
        """A new file of at most `limit` bytes."""
        return Draft(self.folder, limit)

    def path(self, digest: str) -> Path:
        """Where the file of a digest lies, if it is there."""
        return blob_path(self.folder, digest)

    def named(self, name: str) -> Path:
        """Where the file of a name lies, if it is there."""
        return named_path(self.folder, name)

    def open(self, digest: str) -> BinaryIO:
        """Read the file of a digest. Raises NotFound."""
        try:
            return self.path(digest).open("rb")
        except FileNotFoundError:
            raise NotFound(f"there is no file {digest}") from None

    def delete(self, digest: str) -> bool:
        """Remove the file of a digest; whether it was there. Whoever reads it at this moment reads on."""
        path = self.path(digest)
        present = path.exists()
        path.unlink(missing_ok=True)
        return present


def blob_path(folder: Path, digest: str) -> Path:
    """Two levels of folders keep each of them small. Raises NotFound if it is no digest."""
    if not _DIGEST.fullmatch(digest):
        raise NotFound("not a SHA-256 digest")
    return folder / digest[:2] / digest[2:4] / digest


def named_path(folder: Path, name: str) -> Path:
    """Where the file of a name lies. Raises NotFound if it is no plain name."""
    if not _NAME.fullmatch(name):
        raise NotFound("not a plain name")
    return folder / "named" / name


def _locked(folder: Path) -> tuple[int, Path]:
    """A new file (0600) with our lock on it; again, if a sweep came between the two."""
    while True:
        handle, name = tempfile.mkstemp(dir=folder)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)


def _sweep(folder: Path) -> None:
    """Remove the drafts that nobody writes any more."""
    for draft in folder.iterdir():
        with suppress(FileNotFoundError, BlockingIOError), draft.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.unlink()


def _folder(path: Path) -> None:
    """Make a folder (0700) and those above it, durably."""
    if not path.is_dir():
        _folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        _sync(path.parent)


def _sync(folder: Path) -> None:
    """A name is on disk once its folder is."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise Full("the disk is full") from error
        raise
