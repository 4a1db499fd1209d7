"""One long string in a JSON object that is read as it comes: base64 of megabytes, never held whole."""

from __future__ import annotations

import binascii
import re
from typing import Any

import msgspec

from grid.wire.problems import BadRequest, TooLarge

SHORT = 16 * 1024
"""Bytes: the most that all else in the object may have."""


class LongText:
    """The string at `name`, from base64; what else the object says is there at its end.

    A quotation mark within a JSON string is escaped, so that a name between two bare ones is a name; only in an object
    within the object could it be another's, and that is refused at the end.
    """

    def __init__(self, name: str, most: int = SHORT) -> None:
        self._name, self._most = name, most
        self._begins = re.compile(rb'[{,\s]"' + re.escape(name.encode()) + rb'"\s*:\s*"')
        self._rest, self._place = bytearray(), "before"
        self._held, self._start = b"", 0

    def feed(self, block: bytes) -> bytes:
        """The next bytes of the object: what they hold of the string, decoded.

        Raises:
            BadRequest: that is no base64.
            TooLarge: there is too much beside the string.
        """
        if self._place == "before":
            self._rest += block
            found = self._begins.search(self._rest)
            if found is None:
                self._bound()
                return b""
            block = bytes(self._rest[found.end() :])
            del self._rest[found.end() :]
            self._place, self._start = "within", found.end()
        if self._place == "within":
            text, quote, block = block.partition(b'"')
            decoded = self._decode(text, last=bool(quote))
            if not quote:
                return decoded
            self._place = "after"
            self._rest += quote + block
        else:
            decoded = b""
            self._rest += block
        self._bound()
        return decoded

    @property
    def begun(self) -> bool:
        """Whether the string's beginning was there."""
        return self._place != "before"

    def before(self) -> dict[str, Any]:
        """What the object said before the string. Raises BadRequest."""
        return _object(bytes(self._rest[: self._start]) + b'"}')

    def end(self) -> dict[str, Any]:
        """All that the object says besides. Raises BadRequest: it is none, or has no such string."""
        said = _object(bytes(self._rest))
        if self._place != "after" or said.pop(self._name, None) != "":
            raise BadRequest(f"an object with one {self._name!r} is expected, a string")
        return said

    def _bound(self) -> None:
        if len(self._rest) > self._most:
            raise TooLarge(f"more than {self._most} bytes beside {self._name!r}")

    def _decode(self, text: bytes, *, last: bool) -> bytes:
        text = self._held + text
        cut = 0 if last else 1 if text.endswith(b"\\") else 0
        whole, tail = (text[:-cut], text[-cut:]) if cut else (text, b"")
        whole = whole.replace(b"\\/", b"/")
        if not last and (over := len(whole) % 4 or 4):
            whole, tail = whole[:-over], whole[-over:] + tail
        self._held = tail
        try:
            return binascii.a2b_base64(whole, strict_mode=True)
        except binascii.Error as error:
            raise BadRequest(f"{self._name!r} is no base64: {error}") from None


def _object(text: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequest(f"not a JSON object: {error}") from None
