"""SHA-256 of a long stream in a thread of its own: it takes longer than the cipher, and need not wait for it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

from grid.crypto.encoding import Bytes

WORTH = 4 * 1024 * 1024
"""Bytes: for less, a thread costs more than it saves."""


class Digest(Protocol):
    """What is hashed so far."""

    def update(self, block: Bytes, /) -> None:
        """The next bytes."""

    def digest(self) -> bytes:
        """Of all of them."""


@contextmanager
def sha256_beside(length: int) -> Iterator[Digest]:
    """SHA-256 of about `length` bytes, worked out beside the caller for as long as the block lasts.

    A block given to `update` is read until the next `update` or `digest` returns: whoever fills buffers anew
    takes two in turns.
    """
    if length < WORTH:
        yield hashlib.sha256()
        return
    with ThreadPoolExecutor(1, "sha256") as thread:
        yield _Beside(thread)


class _Beside:
    def __init__(self, thread: ThreadPoolExecutor) -> None:
        self._thread, self._hash = thread, hashlib.sha256()
        self._last: Future[None] | None = None

    def update(self, block: Bytes, /) -> None:
        self._wait()
        self._last = self._thread.submit(self._hash.update, block)

    def digest(self) -> bytes:
        self._wait()
        return self._hash.digest()

    def _wait(self) -> None:
        if self._last is not None:
            self._last.result()
