"""A call, or the answer to one, as the payload of a letter: a small head, then the body.

    length of the head (4, big-endian) | head, MessagePack | body

What is opened goes to a file that is in memory while it is small; none of it is believed before all of it is proved.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import IO, Annotated, NamedTuple

import msgspec
from msgspec import Meta

from grid.client.payload import BLOCK, opened, pieces
from grid.crypto.envelope import Header
from grid.crypto.identity import Identity
from grid.crypto.prekeys import PrekeyPublic
from grid.crypto.sealing import BodySealer, Opener
from grid.wire.problems import BadRequest

KIND = "letter"
"""The kind of an envelope that is a letter (`Header.kind`)."""

SMALL = 256 * 1024
"""Bytes of a letter's body that stay in memory."""

HEAD = 32 * 1024
"""Bytes: the most that a head has."""

ASKED = ("Accept", "Content-Type", "Range", "If-Range")
"""Headers of a request that go with it in a letter."""

ANSWERED = ("Content-Type", "ETag", "Accept-Ranges", "Content-Range")
"""Headers of a response that go with it in a letter."""

_LENGTH = struct.Struct(">I")
_Headers = Annotated[dict[str, Annotated[str, Meta(max_length=1024)]], Meta(max_length=8)]


class Call(msgspec.Struct, frozen=True, tag=True):
    """A request, but for its body. Its answer goes to the sender's mailbox with this `label`, sealed to `prekey`.

    `patience`: seconds for which the sender waits.
    """

    method: Annotated[str, Meta(pattern=r"^(GET|POST|PUT|DELETE)\Z")]
    target: Annotated[str, Meta(max_length=8192, pattern=r"^/[\x21-\x7e]*\Z")]
    headers: _Headers
    label: Annotated[str, Meta(pattern=r"^([a-z0-9]{1,32})?\Z")]
    prekey: Annotated[bytes, Meta(max_length=4096)]
    patience: Annotated[float, Meta(gt=0, le=86_400)]


class Answer(msgspec.Struct, frozen=True, tag=True):
    """A response, but for its body, to the call in the letter `to`."""

    to: str
    status: Annotated[int, Meta(ge=200, le=599)]
    headers: _Headers


_HEAD = msgspec.msgpack.Decoder(Call | Answer)


def some(headers: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """Those of the headers that travel."""
    return {name: headers[name] for name in names if name in headers}


class Body:
    """The body of an opened letter: `size` bytes, read once."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self.size = file, size

    async def readany(self) -> bytes:
        """The next bytes; none at the end."""
        return self._file.read(BLOCK)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while block := self._file.read(BLOCK):
            yield block

    async def whole(self) -> bytes:
        """All of them at once, where they are few."""
        return self._file.read()

    def close(self) -> None:
        """Its bytes are gone."""
        self._file.close()


def spool() -> IO[bytes]:
    """A file without a name, in memory while it is small."""
    return tempfile.SpooledTemporaryFile(SMALL)


async def seal(
    identity: Identity,
    header: Header,
    head: Call | Answer,
    body: AsyncIterable[bytes],
    length: int,
    recipient: PrekeyPublic,
    out: IO[bytes],
) -> str:
    """Write a letter with a body of `length` bytes to `out`; its id. The header's length is filled in."""
    start = msgspec.msgpack.encode(head)
    start = _LENGTH.pack(len(start)) + start
    sealer = BodySealer(identity, msgspec.structs.replace(header, length=len(start) + length))
    total = sha256()

    def put(block: bytes) -> None:
        total.update(block)
        out.write(block)

    put(sealer.round_key.preamble([recipient]))
    put(sealer.update(start))
    async for block in body:
        for piece in pieces([block]):
            put(sealer.update(piece))
    put(sealer.finish())
    return total.hexdigest()


async def unseal(opener: Opener, blocks: AsyncIterable[bytes]) -> tuple[str, Call | Answer, Body]:
    """The id of a letter, its head and its body, all of it proved to be the sender's.

    Raises:
        EnvelopeRefused, PrekeyUnknown: see `Opener`.
        BadRequest: it holds something else.
    """
    total, file = sha256(), spool()
    sink = _Sink(file)

    async def counted() -> AsyncIterator[bytes]:
        async for block in blocks:
            total.update(block)
            yield block

    try:
        async for piece in opened(opener, counted()):
            sink.write(piece)
        head, size = sink.finish()
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return total.hexdigest(), head, Body(file, size)


class _Sink:
    """Takes the head apart; the body goes to `file`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._start = bytearray()
        self._head: Call | Answer | None = None
        self._size = 0

    def write(self, piece: memoryview) -> None:
        if self._head is None:
            self._start += piece
            piece = self._read_head()
        self._file.write(piece)
        self._size += len(piece)

    def finish(self) -> tuple[Call | Answer, int]:
        if self._head is None:
            raise BadRequest("a letter without a head")
        return self._head, self._size

    def _read_head(self) -> memoryview:
        """What follows the head, once that is here."""
        start = memoryview(self._start)
        if len(start) < _LENGTH.size:
            return start[:0]
        end = _LENGTH.size + _LENGTH.unpack_from(start)[0]
        if end > HEAD:
            raise BadRequest("the head of this letter is too long")
        if len(start) < end:
            return start[:0]
        try:
            self._head = _HEAD.decode(start[_LENGTH.size : end])
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise BadRequest(f"neither a call nor an answer: {error}") from None
        return start[end:]


class Letter(NamedTuple):
    """A letter that is written: its id, and its bytes, or the file in which they are."""

    name: str
    data: bytes | Path


@dataclass(frozen=True)
class Written:
    """What goes into a letter with a body of `length` bytes."""

    header: Header
    head: Call | Answer
    recipient: PrekeyPublic
    length: int

    @asynccontextmanager
    async def by(self, identity: Identity, body: AsyncIterable[bytes]) -> AsyncIterator[Letter]:
        """The letter, sealed; it lasts as long as the block."""
        if self.length <= SMALL:
            memory = BytesIO()
            name = await seal(identity, self.header, self.head, body, self.length, self.recipient, memory)
            yield Letter(name, memory.getvalue())
            return
        with tempfile.NamedTemporaryFile(prefix="grid-") as file:
            name = await seal(identity, self.header, self.head, body, self.length, self.recipient, file)
            file.flush()
            yield Letter(name, Path(file.name))
