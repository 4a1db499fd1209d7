from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.crypto.identity import Identity
from grid.protocol.documents import read_document, sign_document
from grid.wire.documents import Signed
from grid.wire.message import Decoder, Document, encode
from grid.wire.problems import BadRequest, BadSignature, Replayed

ALICE, MALLORY = Identity.from_seed(b"a" * 32), Identity.from_seed(b"m" * 32)


class Promise(Document, frozen=True):
    words: str
    expires: float = 100.0


class LaterPromise(Promise, frozen=True):
    """The same document in a later version of the grid."""

    witnesses: tuple[str, ...] = ()


PROMISE = Promise(words="no data leaves")
SIGNED = sign_document(ALICE, "promise", PROMISE)


def test_a_document_is_read_by_whoever_has_it_and_says_who_signed() -> None:
    travelled = Decoder(Signed)(encode(SIGNED))
    assert isinstance(travelled, Signed)

    assert read_document(travelled, Promise, "promise", signer=ALICE.id) == PROMISE
    assert travelled.signer == ALICE.id


def test_a_signature_for_one_purpose_means_nothing_for_another() -> None:
    with pytest.raises(BadSignature):
        read_document(SIGNED, Promise, "threat")


def test_a_document_of_another_key_is_refused_even_if_its_signature_holds() -> None:
    with pytest.raises(BadSignature):
        read_document(sign_document(MALLORY, "promise", PROMISE), Promise, "promise", signer=ALICE.id)


def test_a_claim_to_be_someone_else_is_refused() -> None:
    with pytest.raises(BadSignature):
        read_document(msgspec.structs.replace(SIGNED, signer=MALLORY.id), Promise, "promise")
    with pytest.raises(BadSignature):
        read_document(msgspec.structs.replace(SIGNED, signer="_" * 43), Promise, "promise")


@given(st.integers(0, len(SIGNED.payload) - 1), st.integers(1, 255))
def test_no_byte_of_a_document_can_be_changed(place: int, flip: int) -> None:
    payload = bytearray(SIGNED.payload)
    payload[place] ^= flip

    with pytest.raises(BadSignature):
        read_document(msgspec.structs.replace(SIGNED, payload=bytes(payload)), Promise, "promise")


def test_fields_of_a_later_version_neither_break_the_signature_nor_are_lost_on_the_way() -> None:
    later = sign_document(ALICE, "promise", LaterPromise(words="no data leaves", witnesses=("bob",)))

    assert read_document(later, Promise, "promise") == PROMISE
    passed_on = msgspec.msgpack.decode(msgspec.msgpack.encode(later), type=Signed)
    assert read_document(passed_on, LaterPromise, "promise").witnesses == ("bob",)


def test_a_document_whose_time_is_over_is_refused() -> None:
    assert read_document(SIGNED, Promise, "promise", now=99.9) == PROMISE
    with pytest.raises(Replayed):
        read_document(SIGNED, Promise, "promise", now=100.0)


def test_what_is_signed_and_no_such_document_is_a_bad_request() -> None:
    class Noise(Document, frozen=True):
        noise: int

    with pytest.raises(BadRequest, match="not a Promise"):
        read_document(sign_document(ALICE, "promise", Noise(noise=1)), Promise, "promise")
