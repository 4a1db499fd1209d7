"""Payloads in sealed envelopes, streamed: words, files, and models as safetensors into shared memory.

What comes out of `opened` is not authentic before the stream has ended; sinks keep it apart until then.
"""

from __future__ import annotations

import mmap
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from grid.crypto import errors
from grid.crypto.envelope import Expect, Header, body_size, preamble_size
from grid.crypto.identity import Identity
from grid.crypto.prekeys import PrekeyPublic, read_published
from grid.crypto.sealing import BodySealer, FindPrekey, Opener, RoundKey, open_bytes, opened_file, room_for, seal_bytes
from grid.crypto.signing import SIGNATURE_BYTES
from grid.learning.tensors import Layout, data_offset, read_header
from grid.wire.message import MSGPACK, encode
from grid.wire.problems import (
    BadRequest,
    BadSignature,
    EnvelopeRefused,
    GridError,
    PrekeyUnknown,
    Replayed,
    TensorsRefused,
)

Bytes = bytes | bytearray | memoryview
T = TypeVar("T")

BLOCK = 256 * 1024
"""Bytes handled at a time: small enough to stay in the processor's cache from socket to cipher to sum."""

_PROBLEMS: dict[type[errors.CryptoError], type[GridError]] = {
    errors.Malformed: BadRequest,
    errors.BadSignature: BadSignature,
    errors.Replayed: Replayed,
    errors.EnvelopeRefused: EnvelopeRefused,
    errors.PrekeyUnknown: PrekeyUnknown,
}


def refusal(error: errors.CryptoError) -> GridError:
    """The problem that a caller sees when the room `crypto` refuses something."""
    return _PROBLEMS.get(type(error), EnvelopeRefused)(str(error))


def read_prekey(published: bytes, owner: bytes, now: float) -> PrekeyPublic:
    """The prekey that `owner` (public key, 32 bytes) published. Raises BadSignature, Replayed, BadRequest."""
    try:
        return read_published(published, owner, now)
    except errors.CryptoError as error:
        raise refusal(error) from None


# --- sealing ------------------------------------------------------------------------------------


def pieces(parts: Iterable[Bytes]) -> Iterator[memoryview]:
    """The parts, one after the other, in pieces of at most `BLOCK` bytes."""
    for part in parts:
        view = memoryview(part)
        for begin in range(0, len(view), BLOCK):
            yield view[begin : begin + BLOCK]


def sealed_body(sealer: BodySealer, parts: Iterable[Bytes]) -> Iterator[bytes]:
    """Body and signature, block by block, each in memory of its own: a socket may keep it for a while."""
    for piece in pieces(parts):
        if block := sealer.update(piece):
            yield block
    yield sealer.finish()


def sealed(identity: Identity, header: Header, parts: Iterable[Bytes], recipient: PrekeyPublic) -> Iterator[bytes]:
    """A whole envelope of `header.length` bytes of payload, block by block."""
    sealer = BodySealer(identity, header)
    yield sealer.round_key.preamble([recipient])
    yield from sealed_body(sealer, parts)


def sealed_size(header: Header, key: RoundKey | None = None) -> int:
    """The bytes of an envelope for one recipient, for a Content-Length."""
    header_bytes = key.header_bytes if key else msgspec.msgpack.encode(header)
    return preamble_size(1, header_bytes) + body_size(header.length) + SIGNATURE_BYTES


def seal_message(identity: Identity, header: Header, message: object, recipient: PrekeyPublic) -> bytes:
    """A small message in an envelope of its own; the header's length is filled in."""
    return seal_bytes(identity, header, encode(message, MSGPACK), [recipient])


# --- opening ------------------------------------------------------------------------------------


def open_message(envelope: Bytes, kind: type[T], me: bytes, find_prekey: FindPrekey, expect: Expect, now: float) -> T:
    """The message in a small envelope. Raises EnvelopeRefused, PrekeyUnknown, BadRequest."""
    try:
        _, payload = open_bytes(envelope, me, find_prekey, expect, now)
        return msgspec.msgpack.decode(payload, type=kind)
    except errors.CryptoError as error:
        raise refusal(error) from None
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BadRequest(f"not a {kind.__name__}: {error}") from None


async def opened(opener: Opener, blocks: AsyncIterable[bytes]) -> AsyncIterator[memoryview]:
    """The plaintext in pieces that are valid until the next; none is authentic before the end is reached.

    Raises:
        EnvelopeRefused, PrekeyUnknown: see `Opener`.
    """
    out = memoryview(bytearray(room_for(BLOCK)))
    try:
        async for block in blocks:
            for piece in pieces([block]):
                if size := opener.feed_into(piece, out):
                    yield out[:size]
        if tail := opener.finish():
            yield memoryview(tail)
    except errors.CryptoError as error:
        raise refusal(error) from None


class TensorSink:
    """Takes the bytes of a safetensors file: the header apart, the data into `into`.

    The layout must be exactly `layout`. If it is not, `finish` says so and no earlier: before all of an envelope is
    proved, what is wrong with it may be a forger's.
    """

    def __init__(self, layout: Layout, into: memoryview) -> None:
        self._layout, self._into = layout, into
        self._head = bytearray()
        self._header_size: int | None = None
        self._filled = 0
        self._metadata: dict[str, str] = {}
        self._refused: TensorsRefused | None = None

    def write(self, piece: memoryview) -> None:
        """The next bytes of the file."""
        if self._refused is None:
            try:
                self._take(piece)
            except TensorsRefused as error:
                self._refused = error

    def finish(self) -> dict[str, str]:
        """The file's metadata, once all of it is here. Raises TensorsRefused."""
        if self._refused is not None:
            raise self._refused
        if self._filled != self._layout.size or self._header_size is None:
            raise TensorsRefused(f"{self._filled} bytes of tensors where {self._layout.size} were declared")
        return self._metadata

    def _take(self, piece: memoryview) -> None:
        if self._header_size is None or len(self._head) < self._header_size:
            piece = self._take_header(piece)
        end = self._filled + len(piece)
        if end > self._layout.size:
            raise TensorsRefused(f"more than the declared {self._layout.size} bytes of tensors")
        self._into[self._filled : end] = piece
        self._filled = end

    def _take_header(self, piece: memoryview) -> memoryview:
        for goal in (8, None):
            wanted = (goal or data_offset(self._head)) - len(self._head)
            self._head += piece[: max(wanted, 0)]
            piece = piece[max(wanted, 0) :]
            if len(self._head) < (goal or 0):
                return piece
        self._header_size = data_offset(self._head)
        if len(self._head) == self._header_size:
            found, self._metadata, _ = read_header(self._head)
            found.require(self._layout)
        return piece


async def open_tensors(
    opener: Opener, blocks: AsyncIterable[bytes], layout: Layout, into: memoryview
) -> dict[str, str]:
    """Open a sealed safetensors file into `into` (`layout.size` bytes); its metadata. All of it is proved.

    Raises:
        EnvelopeRefused, PrekeyUnknown
        TensorsRefused: what the sender itself sealed is of another layout; a forgery is an EnvelopeRefused.
    """
    sink = TensorSink(layout, into)
    async for piece in opened(opener, blocks):
        sink.write(piece)
    return sink.finish()


def load_tensors(opener: Opener, envelope: Path, layout: Layout, into: memoryview) -> dict[str, str]:
    """The same with an envelope that is a file on this disk, without the loop: for a thread beside it."""
    sink = TensorSink(layout, into)
    try:
        for piece in opened_file(envelope, opener):
            sink.write(piece)
    except errors.CryptoError as error:
        raise refusal(error) from None
    return sink.finish()


async def read_blocks(path: Path, begin: int = 0) -> AsyncGenerator[bytes, None]:
    """A file on this disk, from byte `begin` on, in blocks."""
    with path.open("rb", buffering=0) as file:
        file.seek(begin)
        while block := file.read(BLOCK):
            yield block


async def once(block: bytes) -> AsyncIterator[bytes]:
    """One block as a stream."""
    yield block


def mapped(path: Path) -> memoryview:
    """A file's bytes, read when they are looked at."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


async def streamed(blocks: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Blocks that are made one by one, as a stream."""
    for block in blocks:
        yield block


async def gather(blocks: AsyncIterable[bytes], limit: int) -> bytes:
    """A small stream in one piece. Raises BadRequest where it is longer than `limit` bytes."""
    held = bytearray()
    async for block in blocks:
        held += block
        if len(held) > limit:
            raise BadRequest(f"longer than {limit} bytes")
    return bytes(held)
