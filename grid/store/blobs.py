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
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from grid.store.spare import unread
from grid.wire.problems import Full, NotFound, TooLarge

DRAFTS = ".drafts"
SPARE = 16
"""Files that wait to be written over, at most."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Draft:
    """A file that is being written. Blocks go to the page cache and into the SHA-256 if it is `hashed`.

    It is locked for as long as its process lives, which is how a sweep knows it from an orphan. It may be `over` a
    file that nobody needs any more: until `cut`, something of that one stands behind what was written.
    """

    def __init__(
        self, blobs: Path, limit: int | None, hashed: bool = True, over: tuple[int, Path] | None = None
    ) -> None:
        self._blobs, self._limit = blobs, limit
        handle, self.path = over or _locked(blobs / DRAFTS)
        self._handle: int | None = handle
        self._hash = hashlib.sha256() if hashed else None
        self._committing = False
        self.size = 0

    @property
    def digest(self) -> str:
        """SHA-256 of what was written so far, hexadecimal; not of one that is not `hashed`."""
        assert self._hash is not None
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
        if self._hash is not None:
            self._hash.update(view)
        self.size += view.nbytes
        with _disk():
            while view.nbytes:
                view = view[os.write(self._open(), view) :]

    def cut(self) -> None:
        """Nothing follows what was written; the file ends there, and may be read to its end."""
        os.ftruncate(self._open(), self.size)

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
                self.cut()
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
        self._spare: list[tuple[int, Path]] = []
        _folder(folder / DRAFTS)
        _sweep(folder / DRAFTS)

    def create(self, limit: int | None = None, *, hashed: bool = True) -> Draft:
        """A new file of at most `limit` bytes. Not `hashed`: it gets a name, and may take a recycled file's room."""
        over = self._spare.pop() if self._spare and not hashed else None
        return Draft(self.folder, limit, hashed, over)

    def recycle(self, path: Path) -> None:
        """Remove a file that nobody reads any more; the next draft that is not hashed is written over it.

        Its pages are in memory already: to write over them takes a quarter of the time that fresh ones take.
        """
        if len(self._spare) >= SPARE:
            path.unlink(missing_ok=True)
            return
        with suppress(FileNotFoundError):
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            if not unread(handle):
                os.close(handle)
                path.unlink()
                return
            fcntl.flock(handle, fcntl.LOCK_EX)  # before it stands where a sweep could find it
            spare = self.folder / DRAFTS / f"spare-{secrets.token_hex(8)}"
            path.rename(spare)
            self._spare.append((handle, spare))

    def let_go(self) -> None:
        """Give back the room of files that were recycled."""
        while self._spare:
            handle, path = self._spare.pop()
            path.unlink(missing_ok=True)
            os.close(handle)

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
