"""Files that are done with, to be written over: their pages are in memory, where fresh ones cost ten times as much."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def spare(path: Path, name: str) -> Path | None:
    """Take a file from its place to be written over, as `name` beside it. None: there is none, or it is still read.

    One that is still read is removed: whoever reads it reads on.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        aside = path.rename(path.with_name(name))  # from here on nobody can open it
        if unread(handle):
            return aside
        aside.unlink()
        return None
    finally:
        os.close(handle)


def unread(handle: int) -> bool:
    """Whether nobody else has this file open or mapped: only then the kernel grants a lease on writing (fcntl(2))."""
    try:
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:
        return False
    fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True
