"""Signed documents: encoded once, signed over those bytes, verified over the bytes that arrived."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from grid.crypto import errors, signing
from grid.crypto.identity import Identity, public_from_id
from grid.wire.documents import Signed
from grid.wire.message import MSGPACK, Document, encode
from grid.wire.problems import BadRequest, BadSignature, Replayed

D = TypeVar("D", bound=Document)


def sign_document(identity: Identity, domain: str, document: Document) -> Signed:
    """The document as `identity` signs it for the purpose `domain`."""
    payload = encode(document, MSGPACK)
    return Signed(payload=payload, signer=identity.id, signature=identity.sign(domain, payload))


def read_document(
    signed: Signed, kind: type[D], domain: str, *, now: float | None = None, signer: str | None = None
) -> D:
    """The document, once its signature holds. Fields of later versions are passed over.

    `now` (UTC seconds): a document whose `expires` has come is refused. `signer`: the only key (id) that
    will do; without it the caller must decide what `signed.signer` may say.

    Raises:
        BadSignature: not signed by that key for this domain.
        BadRequest: signed, and not a document of this kind.
        Replayed: its time is over.
    """
    _verify(signed, domain, signer)
    try:
        document = msgspec.msgpack.decode(signed.payload, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BadRequest(f"not a {kind.__name__}: {error}") from None
    if now is not None and getattr(document, "expires", now + 1) <= now:
        raise Replayed(f"this {kind.__name__} has expired")
    return document


def _verify(signed: Signed, domain: str, signer: str | None) -> None:
    if signer is not None and signer != signed.signer:
        raise BadSignature("signed by another key than the one expected")
    try:
        signing.verify(public_from_id(signed.signer), domain, signed.payload, signed.signature)
    except (errors.BadSignature, errors.Malformed) as error:
        raise BadSignature(str(error)) from None
