"""What the commands of a daemon share: one process for each data directory, and refusals in one line."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import msgspec

new_loop: Callable[[], asyncio.AbstractEventLoop]
try:
    from uvloop import new_event_loop as new_loop
except ImportError:  # Windows
    new_loop = asyncio.new_event_loop

FILE = "daemon.json"
UNIX = "unix:"
"""What the address of a daemon without a port begins with; the path of its socket follows."""
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - it is looked for, not listened on


class Running(msgspec.Struct, frozen=True):
    """A daemon that runs on a data directory: where it answers on this machine, and its process."""

    address: str
    pid: int


class Post:
    """The file by which a daemon is found; it is locked for as long as the daemon lives."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def announce(self, address: str) -> None:
        """Tell commands on this machine that the daemon answers at `address`: a URL, or unix:PATH."""
        here = address if address.startswith(UNIX) else reachable(address)
        content = msgspec.json.encode(Running(here, os.getpid()))
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, content, 0)


@contextmanager
def alone(data: Path) -> Iterator[Post]:
    """Be the one daemon of a data directory.

    Raises:
        BlockingIOError: another one is.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(data / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)
        yield Post(handle)
        os.ftruncate(handle, 0)
    except BlockingIOError:
        raise BlockingIOError(errno.EAGAIN, "another process works with this data directory", str(data)) from None
    finally:
        os.close(handle)


@contextmanager
def daemon_of(data: Path) -> Iterator[Running | None]:
    """The daemon that runs on a data directory. If there is none, none can start while the block lasts.

    Raises:
        BlockingIOError: one is just starting.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(data / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if not (content := file.read(4096)):
                raise BlockingIOError(errno.EAGAIN, "the daemon is starting; try again", str(data)) from None
            yield msgspec.json.decode(content, type=Running)
        else:
            yield None


def reachable(address: str) -> str:
    """An address on which this machine reaches what listens there: nobody can connect to "everywhere"."""
    parts = urlsplit(address)
    host = _EVERYWHERE.get(parts.hostname or "", parts.hostname or "")
    return urlunsplit(parts._replace(netloc=f"{f'[{host}]' if ':' in host else host}:{parts.port}"))
