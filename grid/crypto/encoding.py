"""The two encodings of this room: base64url for headers and ids, canonical MessagePack for small records.

Both are strict: each value has one encoding, and any other that would decode to it is refused,
so that a digest or signature over the bytes stands for exactly one value.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, TypeVar

import msgspec

from grid.crypto.errors import Malformed

Bytes = bytes | bytearray | memoryview

Key32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Moment = Annotated[int, msgspec.Meta(ge=0, le=2**53)]  # UTC seconds, whole: one encoding per value


class Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A small record, an array of its fields in the order they are declared."""


R = TypeVar("R", bound=Record)


def b64(data: bytes) -> str:
    """Base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str, length: int) -> bytes:
    """The `length` bytes of an unpadded base64url text. Raises Malformed for anything but `b64`'s own output."""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise Malformed("not base64url") from error
    if len(data) != length or b64(data) != text:
        raise Malformed(f"not the base64url of {length} bytes")
    return data


def pack(record: Record) -> bytes:
    """The canonical bytes of a record."""
    return msgspec.msgpack.encode(record)


def unpack(data: Bytes, kind: type[R]) -> R:
    """The record in `data`. Raises Malformed unless `data` is exactly what `pack` would write."""
    try:
        record = msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"not a {kind.__name__}: {error}") from error
    if pack(record) != data:
        raise Malformed(f"a {kind.__name__} that is not in its canonical form")
    return record
