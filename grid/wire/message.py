"""Messages and their two encodings.

A message is declared once and travels as JSON or MessagePack. Requests refuse unknown fields;
signed documents are verified over the bytes that arrived and may carry fields of later versions.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from grid.wire.problems import BadRequest

JSON = "application/json"
MSGPACK = "application/msgpack"
OCTETS = "application/octet-stream"

M = TypeVar("M")


class Message(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True, omit_defaults=True):
    """What one side says to the other: kebab-case on the wire, unknown fields refused."""


class Document(msgspec.Struct, frozen=True, rename="kebab"):
    """What is signed: unknown fields are kept out of the way, for later versions of the grid."""


_json = msgspec.json.Encoder()
_msgpack = msgspec.msgpack.Encoder()


def encode(message: object, media: str = JSON) -> bytes:
    """The bytes of a message in the given media type."""
    return _msgpack.encode(message) if media == MSGPACK else _json.encode(message)


class Decoder:
    """Reads one type of message from both encodings; built once per endpoint.

    Raises:
        BadRequest: the bytes are not such a message; the detail says where.
    """

    def __init__(self, kind: type[M]) -> None:
        self._json = msgspec.json.Decoder(kind)
        self._msgpack = msgspec.msgpack.Decoder(kind)

    def __call__(self, data: bytes | memoryview, media: str = JSON) -> object:
        """The message in `data`."""
        decoder = self._msgpack if media == MSGPACK else self._json
        try:
            return decoder.decode(data)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise BadRequest(str(error)) from None
