"""A signed document as it travels: the bytes that were signed, by whom, and the signature.

The payload is carried as bytes, never re-encoded, so that it is verified as it arrived and passed
on as it was signed. `grid.protocol.documents` makes and reads them.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from grid.wire.message import Message
from grid.wire.names import PublicKey

Payload = Annotated[bytes, Meta(max_length=4 * 1024 * 1024, description="MessagePack of a document")]
Signature = Annotated[bytes, Meta(min_length=64, max_length=64, description="Ed25519 (RFC 8032)")]


class Signed(Message, frozen=True):
    """A document and who answers for it. In JSON the bytes are base64."""

    payload: Payload
    signer: PublicKey
    signature: Signature
