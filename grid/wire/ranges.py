"""Parts of a stream. Downloads: what `Range` asks for, and `Content-Range` says is given (RFC 9110, section 14).

The RFC defines ranges for GET and leaves them open for other methods. Here they are taken wherever a daemon
answers with `Accept-Ranges: bytes` and a strong `ETag`, also where the request is a POST. Uploads: `Piece` and `Held`.
"""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

from msgspec import Meta

from grid.wire.message import Message
from grid.wire.names import Count
from grid.wire.problems import RangeUnsatisfiable

_ASKED = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.IGNORECASE | re.ASCII)
_GIVEN = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.IGNORECASE | re.ASCII)


class Piece(Message, frozen=True):
    """A part of an upload: from byte `begin` to the end of the bytes whose SHA-256 is `content`.

    An update is an envelope, whose signature proves all of it. `content` only has to tell it from others there: any
    digest does, and that of its first 4 KiB costs least, where the key of no other envelope stands.

    Without `content` it is a whole, and nothing of it is kept where its connection breaks.
    """

    content: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z", description="SHA-256, hexadecimal")] = ""
    begin: Count = 0


WHOLE = Piece()


class Held(Message, frozen=True):
    """How many bytes of an upload that broke off are here: it goes on with the next one."""

    size: Count


class Span(NamedTuple):
    """The bytes from `begin` up to, not including, `end`."""

    begin: int
    end: int


def asked(value: str, size: int) -> Span | None:
    """What a `Range` header asks of a stream of `size` bytes; None: all, for what we do not understand is ignored.

    Raises:
        RangeUnsatisfiable: nothing of it is within the stream.
    """
    found = _ASKED.fullmatch(value.strip())
    if found is None or found[1] == found[2] == "":
        return None
    if not found[1]:  # the last so many bytes
        begin, end = max(0, size - int(found[2])), size
    else:
        begin, end = int(found[1]), min(size, int(found[2]) + 1) if found[2] else size
        if found[2] and int(found[2]) < begin:
            return None  # not a range at all, by the RFC
    if begin >= end:
        raise RangeUnsatisfiable(f"there are {size} bytes")
    return Span(begin, end)


def onwards(begin: int) -> str:
    """The `Range` header that asks for everything from `begin` on."""
    return f"bytes={begin}-"


def content_range(span: Span, size: int) -> str:
    """The `Content-Range` header of a part of `size` bytes."""
    return f"bytes {span.begin}-{span.end - 1}/{size}"


def given(value: str) -> tuple[Span, int] | None:
    """What a `Content-Range` header says: the part, and the size of the whole. None: nothing that holds together."""
    found = _GIVEN.fullmatch(value.strip())
    if found is None:
        return None
    span, size = Span(int(found[1]), int(found[2]) + 1), int(found[3])
    return (span, size) if span.begin < span.end <= size else None
