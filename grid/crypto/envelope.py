"""The sealed envelope as bytes on the wire, and what can be checked of it without any key to open it.

    magic "grid-env" | header length (2) | number of wraps (2)          big-endian
    header     canonical MessagePack, see `Header`
    wraps      for each recipient: identity (32), prekey id (8), wrapped body key (1,152)
    body       Cobblestone-128 (C2SP chunked encryption) of the payload; its context is SHA-256 of the header
    signature  Ed25519 by the sender over header and SHA-256(body), domain "envelope"

The magic, the lengths and the wraps come first and are not signed, so one body and signature serve any
number of recipients, each with a wrap of its own made when it asks. A wrap is bound to header, sender and
recipient by HPKE, and to the body because Cobblestone commits to its key.

A recipient of a broadcast can pass it on to others (it could pass on the payload as well). A message that
only one may read as addressed to it names that one in `Header.audience`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from grid.crypto.encoding import Bytes, Key32, Moment, Record, unpack
from grid.crypto.errors import BadSignature, EnvelopeRefused, Malformed
from grid.crypto.hashing import Digest
from grid.crypto.prekeys import ID_BYTES, WRAP_OVERHEAD
from grid.crypto.signing import CLOCK_SKEW, SIGNATURE_BYTES, verify

VERSION = 1
SUITE = 1
"""HPKE MLKEM768_X25519 + HKDF-SHA256 + AES-128-GCM, Cobblestone-128, Ed25519."""

CEK_BYTES = 16
MAX_HEADER = 4096
MAX_WRAPS = 800
"""A preamble stays under 1 MiB. Serve more recipients by giving each its own preamble."""

_MAGIC = b"grid-env"
_START = struct.Struct(">8sHH")
_WRAP = 32 + ID_BYTES + CEK_BYTES + WRAP_OVERHEAD
_CHUNK, _TAG, _BODY_START = 16_384, 16, 56  # C2SP chunked encryption

Word = Annotated[str, Meta(max_length=128)]
Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Expect = Callable[["Header"], None]
"""Raises EnvelopeRefused for a header that is not the one awaited."""


class Header(Record, frozen=True, kw_only=True):
    """What everyone may see of an envelope, and what its sender signs."""

    version: Annotated[int, Meta(ge=0, le=255)] = VERSION
    suite: Annotated[int, Meta(ge=0, le=255)] = SUITE
    sender: Key32  # Ed25519 public key
    audience: Annotated[bytes, Meta(max_length=32)] = b""  # the only recipient meant; empty for a broadcast
    kind: Word
    project: Word = ""
    run: Word = ""
    round: Number = 0
    seq: Number = 0
    created: Moment
    expires: Moment
    length: Annotated[int, Meta(ge=0, le=2**48)] = 0  # of the payload, bytes


@dataclass(frozen=True, slots=True)
class Context:
    """Where an envelope must belong. An instance is an `expect`: it refuses what was made for elsewhere.

    That an update comes only once within its place is for the caller to remember (`Header.seq`).
    None leaves a field open; `direct` demands that the envelope was addressed to this recipient alone.
    """

    run: str
    round: int
    kind: str
    sender: bytes | None = None
    project: str | None = None
    seq: int | None = None
    max_length: int | None = None
    direct: bool = False

    def __call__(self, header: Header) -> None:
        """Raises EnvelopeRefused with reason "wrong-context" or "too-large"."""
        for name in ("run", "round", "kind", "sender", "project", "seq"):
            wanted, found = getattr(self, name), getattr(header, name)
            if wanted is not None and wanted != found:
                raise EnvelopeRefused("wrong-context", f"its {name} is not the one awaited")
        if self.direct and not header.audience:
            raise EnvelopeRefused("wrong-context", "a broadcast, where a message to us alone is awaited")
        if self.max_length is not None and header.length > self.max_length:
            raise EnvelopeRefused("too-large", f"{header.length} bytes, and {self.max_length} are allowed")


@dataclass(frozen=True, slots=True)
class Wrap:
    """The body key for one recipient: identity (32 bytes), prekey id (8), wrapped key (1,152)."""

    recipient: bytes
    prekey: bytes
    wrapped: bytes

    def __bytes__(self) -> bytes:
        return self.recipient + self.prekey + self.wrapped


def preamble(header_bytes: bytes, wraps: Iterable[bytes]) -> bytes:
    """All that stands before the body: `header_bytes` as they were signed, and wraps as `RoundKey.wrap` makes them."""
    wraps = list(wraps)
    if len(wraps) > MAX_WRAPS or len(header_bytes) > MAX_HEADER or any(len(wrap) != _WRAP for wrap in wraps):
        raise ValueError(f"an envelope has a header of up to {MAX_HEADER} bytes and up to {MAX_WRAPS} wraps")
    return _START.pack(_MAGIC, len(header_bytes), len(wraps)) + header_bytes + b"".join(wraps)


def preamble_size(wraps: int, header_bytes: bytes) -> int:
    """The bytes before the body, for a Content-Length."""
    return _START.size + len(header_bytes) + wraps * _WRAP


def body_size(length: int) -> int:
    """The bytes that a payload of `length` bytes takes when sealed, signature not counted."""
    return _BODY_START + length + _TAG * (length // _CHUNK + 1)


def header_hash(header_bytes: bytes) -> bytes:
    """What binds wraps and body to the header."""
    return hashlib.sha256(b"grid/envelope/header\0" + header_bytes).digest()


def wrap_info(header_bytes: bytes, sender: bytes, recipient: bytes, prekey: bytes) -> bytes:
    """The HPKE info of a wrap: for this header, from this sender, to this recipient and prekey, or not at all."""
    return b"grid/envelope/wrap\0" + header_hash(header_bytes) + sender + recipient + prekey


def read_header(data: bytes) -> Header:
    """The header in `data`. Raises EnvelopeRefused: "malformed", "unknown-suite"."""
    try:
        header = unpack(data, Header)
    except Malformed as error:
        raise EnvelopeRefused("malformed", str(error)) from error
    if (header.version, header.suite) != (VERSION, SUITE):
        raise EnvelopeRefused("unknown-suite", f"version {header.version}, suite {header.suite}")
    if len(header.audience) not in {0, 32}:
        raise EnvelopeRefused("malformed", "an audience is a public key or empty")
    return header


class EnvelopeCheck:
    """Checks an envelope as it streams by, in pieces of any size, without a key to open it.

    `feed` pieces, then `finish`. Nothing is known to come from the sender before `finish` returned.
    Holds the preamble (under 1 MiB), never the body. `digest`: what to hash the body with, SHA-256 like any other.
    """

    def __init__(self, expect: Expect, now: float, digest: Digest | None = None) -> None:
        self._expect, self._now = expect, now
        self._start = bytearray()
        self._body_left = 0
        self._digest = digest or hashlib.sha256()
        self._signature = bytearray()
        self.header: Header | None = None  # known, but not proved, once the preamble is in
        self.header_bytes = b""
        self.wraps: tuple[Wrap, ...] = ()

    def feed(self, piece: Bytes) -> memoryview:
        """Take the next bytes and return the part of them that belongs to the body, uncopied.

        Raises:
            EnvelopeRefused: malformed, unknown-suite, expired, not-yet-valid, trailing-bytes, or as `expect` says.
        """
        rest = memoryview(piece)
        if self.header is None:
            rest = self._take_preamble(rest)
        body = rest[: self._body_left]
        self._digest.update(body)
        self._body_left -= len(body)
        self._take_signature(rest[len(body) :])
        return body

    def finish(self) -> Header:
        """The header, now proved to be its sender's, as is the body.

        Raises:
            EnvelopeRefused: truncated, trailing-bytes, bad-signature.
        """
        if self.header is None or len(self._signature) < SIGNATURE_BYTES:
            raise EnvelopeRefused("truncated", "the envelope ends too early")
        self._refuse_trailing()
        message = self.header_bytes + self._digest.digest()
        try:
            verify(self.header.sender, "envelope", message, bytes(self._signature))
        except BadSignature as error:
            raise EnvelopeRefused("bad-signature", str(error)) from error
        return self.header

    def _take_preamble(self, rest: memoryview) -> memoryview:
        while missing := self._missing():
            part = rest[:missing]
            self._start += part
            rest = rest[len(part) :]
            if len(part) < missing:
                return rest
        header_length, _ = self._lengths()
        wraps_at = _START.size + header_length
        header_bytes = bytes(self._start[_START.size : wraps_at])
        header = read_header(header_bytes)
        self._refuse_untimely(header)
        self._expect(header)
        self.wraps = tuple(_read_wrap(self._start[at : at + _WRAP]) for at in range(wraps_at, len(self._start), _WRAP))
        self.header_bytes, self.header = header_bytes, header
        self._body_left = body_size(header.length)
        return rest

    def _missing(self) -> int:
        if len(self._start) < _START.size:
            return _START.size - len(self._start)
        header_length, wraps = self._lengths()
        return _START.size + header_length + wraps * _WRAP - len(self._start)

    def _lengths(self) -> tuple[int, int]:
        magic, header_length, wraps = _START.unpack_from(self._start)
        if magic != _MAGIC:
            raise EnvelopeRefused("malformed", "not an envelope")
        if not 0 < header_length <= MAX_HEADER or wraps > MAX_WRAPS:
            raise EnvelopeRefused("malformed", f"a header of {header_length} bytes, {wraps} wraps")
        return header_length, wraps

    def _refuse_untimely(self, header: Header) -> None:
        if self._now >= header.expires:
            raise EnvelopeRefused("expired", f"{self._now - header.expires:.0f} seconds ago")
        if header.created > self._now + CLOCK_SKEW:
            raise EnvelopeRefused("not-yet-valid", f"made {header.created - self._now:.0f} seconds from now")

    def _take_signature(self, rest: memoryview) -> None:
        self._signature += rest[: SIGNATURE_BYTES + 1 - len(self._signature)]
        self._refuse_trailing()

    def _refuse_trailing(self) -> None:
        if len(self._signature) > SIGNATURE_BYTES:
            raise EnvelopeRefused("trailing-bytes", "the envelope goes on after its signature")


def verify_envelope_signature(pieces: Iterable[Bytes], expect: Expect, now: float) -> Header:
    """Check a whole envelope without opening it, so that a relay can drop forgeries. Raises EnvelopeRefused."""
    check = EnvelopeCheck(expect, now)
    for piece in pieces:
        check.feed(piece)
    return check.finish()


def _read_wrap(data: bytearray) -> Wrap:
    return Wrap(bytes(data[:32]), bytes(data[32 : 32 + ID_BYTES]), bytes(data[32 + ID_BYTES :]))
