"""Memory that the daemon and one seat share: fixed in size when made, reused call after call.

A memfd with its size sealed: neither side can shrink it under the other (SIGBUS) nor grow it
(a flood of output). First touch of fresh pages costs ten times a warm copy, so the pages stay.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


class SharedMemory:
    """One block of `size` bytes; `descriptor` is what the seat gets, `view` what the daemon sees."""

    def __init__(self, name: str, size: int) -> None:
        self.descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.descriptor, max(size, 1))
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, seals)
        self._map = mmap.mmap(self.descriptor, max(size, 1))
        self.view = memoryview(self._map)[:size]

    def hand_over(self) -> None:
        """Drop the descriptor, once the seat has it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def close(self) -> None:
        """Give the pages back; slices that a caller still holds keep them until they go."""
        self.hand_over()
        self.view = memoryview(b"")
        try:
            self._map.close()
        except BufferError:
            return


def keep_freed() -> bool:
    """Let this process keep the memory that it frees, until it ends: gradients come and go by the hundred megabytes.

    glibc returns large blocks at once, and the kernel has to clear them anew at each step. See mallopt(3).
    Other C libraries cannot be told so: whether this one was.
    """
    libc = ctypes.CDLL(None)
    if sys.platform != "linux" or not hasattr(libc, "mallopt"):
        return False
    return bool(libc.mallopt(_MMAP_MAX, 0) and libc.mallopt(_TRIM_THRESHOLD, -1))


def map_shared(descriptor: int) -> memoryview:
    """The seat's view of a shared memory; closes the descriptor."""
    try:
        return memoryview(mmap.mmap(descriptor, os.fstat(descriptor).st_size))
    finally:
        os.close(descriptor)


def map_file(descriptor: int) -> memoryview:
    """A file as private memory: writes of the job stay its own copy; closes the descriptor."""
    try:
        size = os.fstat(descriptor).st_size
        return memoryview(mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY) if size else b"")
    finally:
        os.close(descriptor)
