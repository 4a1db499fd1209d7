"""The pins of a client: whom it has met, by which key, in memory or in files that only their owner can write.

Beside them is the newest head of each gateway's log that was seen, so that a log which is rewritten between two
programs is found out by the second.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import msgspec

from grid.protocol.pins import NOWHERE, Pin, met
from grid.protocol.transparency import longer
from grid.wire.documents import Signed

FRESH = 3600.0
"""Seconds: a peer met again so soon is not worth a write."""


class Pins(Protocol):
    """Who is known by which key."""

    def meet(self, name: str, public_key: str, moved: Mapping[str, str] = NOWHERE) -> None:
        """`name` showed a key (wire form). Raises KeyChanged if it is known by another that was not `moved` to it."""

    def seen(self, gateway: str) -> Signed | None:
        """The newest head that was seen of the log of the gateway at an address."""

    def saw(self, gateway: str, head: Signed) -> None:
        """That head was seen, and is of the same log as the one before; the longer one is kept."""


class MemoryPins:
    """Pins for as long as the program runs."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._pins, self._heads = now, dict[str, Pin](), dict[str, Signed]()

    def meet(self, name: str, public_key: str, moved: Mapping[str, str] = NOWHERE) -> None:
        """See `Pins.meet`."""
        self._pins[name] = met(self._pins.get(name), name, public_key, self._now(), moved)

    def seen(self, gateway: str) -> Signed | None:
        """See `Pins.seen`."""
        return self._heads.get(gateway)

    def saw(self, gateway: str, head: Signed) -> None:
        """See `Pins.saw`."""
        self._heads[gateway] = longer(head, self._heads.get(gateway))


class FilePins:
    """Pins in a file (JSON), shared by all programs of one person; replaced whole, so that a crash loses none.

    The heads of logs lie in another file beside it, `heads.json`.
    """

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._path, self._heads, self._now = path, path.with_name("heads.json"), now

    def meet(self, name: str, public_key: str, moved: Mapping[str, str] = NOWHERE) -> None:
        """See `Pins.meet`."""
        with self._alone():
            pins, now = self.all(), self._now()
            before = pins.get(name)
            after = met(before, name, public_key, now, moved)
            if before is None or before.public_key != public_key or now - before.last_seen > FRESH:
                self._write(pins | {name: after})

    def forget(self, name: str) -> bool:
        """Know a name no longer; whether it was known."""
        with self._alone():
            pins = self.all()
            known = pins.pop(name, None) is not None
            if known:
                self._write(pins)
            heads = self._seen()
            if heads.pop(name, None) is not None:
                _replace(self._heads, heads)
        return known

    def seen(self, gateway: str) -> Signed | None:
        """See `Pins.seen`."""
        return self._seen().get(gateway)

    def saw(self, gateway: str, head: Signed) -> None:
        """See `Pins.saw`."""
        with self._alone():
            heads = self._seen()
            if (kept := longer(head, heads.get(gateway))) != heads.get(gateway):
                _replace(self._heads, heads | {gateway: kept})

    def pin(self, name: str, public_key: str) -> None:
        """Know a name by this key from now on, whatever it was known by: its owner was asked."""
        with self._alone():
            now = self._now()
            self._write(self.all() | {name: Pin(name, public_key, now, now, "by hand")})
            heads = self._seen()
            if name in heads and heads[name].signer != public_key:  # another gateway is there, with a log of its own
                del heads[name]
                _replace(self._heads, heads)

    def all(self) -> dict[str, Pin]:
        """Everybody who is known, by name."""
        try:
            return {pin.name: pin for pin in msgspec.json.decode(self._path.read_bytes(), type=list[Pin])}
        except FileNotFoundError:
            return {}

    def _seen(self) -> dict[str, Signed]:
        try:
            return msgspec.json.decode(self._heads.read_bytes(), type=dict[str, Signed])
        except FileNotFoundError:
            return {}

    def _write(self, pins: dict[str, Pin]) -> None:
        _replace(self._path, [pins[name] for name in sorted(pins)])

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One program at a time: two that meet somebody at once lose neither."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _replace(path: Path, kept: object) -> None:
    draft = path.with_suffix(f".{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(kept)))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
