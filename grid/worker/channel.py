"""What daemon, zygote and seats say to each other, as MessagePack over inherited sockets.

Daemon and zygote: one packet per message (SOCK_SEQPACKET), with descriptors beside it.
Daemon and seat: a stream of frames, each four bytes of length (little-endian) and that many bytes.
Arrays never travel here; they lie in shared memory.
"""

from __future__ import annotations

import asyncio
import os
import struct
from typing import Any, Literal

import msgspec

from grid.worker.port import MIB, Limits
from grid.worker.sandbox import Isolation

FRAME_CAP = 4 * MIB  # the layout of a large model is the longest thing ever said
PACKET_CAP = 8192
LENGTH = struct.Struct("<I")

# --- daemon to zygote and back ---------------------------------------------------------------


class Fork(msgspec.Struct, frozen=True, tag=True):
    """Fork a seat. Beside it travel its channel, inbox, outbox, state, the spill if it has one, then the `files`."""

    seat: int
    files: tuple[str, ...]
    spills: bool = False


class Kill(msgspec.Struct, frozen=True, tag=True):
    """End a seat with SIGKILL."""

    seat: int


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The zygote has loaded all that it was asked to."""


class Ended(msgspec.Struct, frozen=True, tag=True):
    """A seat has ended; `status` is what wait(2) said, `pid` what it was."""

    seat: int
    pid: int
    status: int


class Started(msgspec.Struct, frozen=True, tag=True):
    """A seat runs as process `pid`."""

    seat: int
    pid: int


Order = Fork | Kill
Event = Ready | Started | Ended

# --- daemon to seat and back -----------------------------------------------------------------


class GpuShare(msgspec.Struct, frozen=True):
    """The GPU of a seat, as `CUDA_VISIBLE_DEVICES` calls it, and how much of its memory tensors may take (0 to 1)."""

    gpu: str
    share: float


class Opening(msgspec.Struct, frozen=True):
    """The first frame to a seat: its job, its limits, the layers to stand in, and its GPU if it has one."""

    job: str
    arguments: dict[str, Any]
    limits: Limits
    layers: Isolation
    gpu: GpuShare | None = None


class Call(msgspec.Struct, frozen=True):
    """Run one verb."""

    verb: str
    arguments: dict[str, Any]


class Said(msgspec.Struct, frozen=True):
    """What a seat says: progress any number of times, then a result or a problem document."""

    kind: Literal["progress", "result", "problem"]
    body: dict[str, Any]


class BadFrame(Exception):
    """The other side does not keep to the frame format."""


def frame(message: msgspec.Struct) -> bytes:
    """One message with its length before it."""
    body = msgspec.msgpack.encode(message)
    if len(body) > FRAME_CAP:
        raise BadFrame(f"{len(body)} bytes are more than a frame holds")
    return LENGTH.pack(len(body)) + body


async def hear(reader: asyncio.StreamReader) -> Said:
    """The next thing a seat says. The seat is not trusted: length and content are checked.

    Raises:
        BadFrame: too long, or not a `Said`.
        IncompleteReadError: the seat has ended.
    """
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    if length > FRAME_CAP:
        raise BadFrame(f"a frame of {length} bytes")
    try:
        return msgspec.msgpack.decode(await reader.readexactly(length), type=Said)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadFrame("a frame that is not MessagePack of the agreed form") from error


def tell(descriptor: int, message: msgspec.Struct) -> None:
    """Write one frame, blocking."""
    rest = memoryview(frame(message))
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def listen(descriptor: int) -> bytes | None:
    """The body of the next frame, blocking; None when the daemon has closed its end."""
    head = _exactly(descriptor, LENGTH.size)
    return None if head is None else _exactly(descriptor, LENGTH.unpack(head)[0])


def _exactly(descriptor: int, length: int) -> bytes | None:
    body = bytearray()
    while len(body) < length:
        piece = os.read(descriptor, length - len(body))
        if not piece:
            return None
        body += piece
    return bytes(body)
