from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.gateway.claim import read_claim, recall_claim
from grid.wire.directory import Join
from grid.wire.documents import Signed
from grid.wire.problems import BadRequest, BadSignature
from tests.gateway.fakes import START, Key, rfc

JOIN = Key(1).join("alice", "#x", "#x", "#y")
RECORD = cast("Signed", JOIN.record)


def test_a_signed_claim_says_what_the_record_says_each_tag_once() -> None:
    claim = read_claim(JOIN, START)

    assert (claim.tags, claim.version, claim.signer) == (("#x", "#y"), int(START * 1000), Key(1).id)
    assert recall_claim("alice", claim.node_address, claim.record, claim.prekey) == claim


def test_an_unsigned_claim_is_two_words() -> None:
    claim = read_claim(rfc("Bob"), START)

    assert (claim.signer, claim.tags) == (None, ())
    assert recall_claim("Bob", "http://rfc.example", None, None) == claim


@given(st.integers(0, len(RECORD.payload) - 1), st.integers(1, 255))
def test_a_record_changed_in_any_byte_is_refused(at: int, by: int) -> None:
    payload = bytearray(RECORD.payload)
    payload[at] ^= by
    forged = Signed(bytes(payload), RECORD.signer, RECORD.signature)

    with pytest.raises(BadSignature):
        read_claim(Join(JOIN.node_id, JOIN.node_address, forged), START)


@given(st.binary(max_size=64))
def test_signed_nonsense_is_refused(payload: bytes) -> None:
    key = Key(1)
    nonsense = Signed(payload, key.id, key.identity.sign("node-record", payload))

    with pytest.raises(BadRequest):
        read_claim(Join("alice", "http://node.example", nonsense), START)
