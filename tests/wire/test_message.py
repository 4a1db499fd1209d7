"""Every message survives the journey, in both encodings; nothing else gets through."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grid.wire.directory import Join, Search
from grid.wire.message import JSON, MSGPACK, Decoder, Document, Message, encode
from grid.wire.problems import BadRequest
from tests.wire.declared import MESSAGES, values

DECODERS = {kind: Decoder(kind) for kind in MESSAGES}
FEW = settings(max_examples=6, suppress_health_check=list(HealthCheck), deadline=None)


@pytest.mark.parametrize("kind", MESSAGES)
@FEW
@given(data=st.data())
def test_a_message_arrives_as_it_was_said(kind: type[msgspec.Struct], data: st.DataObject) -> None:
    message = data.draw(values(kind))

    for media in (JSON, MSGPACK):
        assert DECODERS[kind](encode(message, media), media) == message


@pytest.mark.parametrize("kind", MESSAGES)
@settings(FEW, max_examples=2)
@given(data=st.data())
def test_only_signed_documents_may_say_more(kind: type[msgspec.Struct], data: st.DataObject) -> None:
    message = data.draw(values(kind))
    more = encode({**msgspec.to_builtins(message), "a-later-idea": 1})

    if issubclass(kind, Document):
        assert DECODERS[kind](more) == message
    else:
        with pytest.raises(BadRequest, match="a-later-idea"):
            DECODERS[kind](more)


@pytest.mark.parametrize("kind", MESSAGES)
def test_fields_are_written_with_hyphens(kind: type[msgspec.Struct]) -> None:
    assert issubclass(kind, (Message, Document))
    assert not any("_" in field.encode_name for field in msgspec.structs.fields(kind))


@given(st.binary(max_size=200), st.sampled_from([JSON, MSGPACK]))
def test_no_bytes_break_a_decoder(data: bytes, media: str) -> None:
    try:
        Decoder(Search)(data, media)
    except BadRequest as refused:
        message = str(refused)
        assert message


@pytest.mark.parametrize(
    "bomb",
    [b"[" * 100_000, b'{"query":' * 50_000, b"\x91" * 100_000, b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff"],
)
def test_bombs_do_not_go_off(bomb: bytes) -> None:
    for media in (JSON, MSGPACK):
        with pytest.raises(BadRequest):
            Decoder(Search)(bomb, media)


@pytest.mark.parametrize("node_id", ["", " a", "a b", "a\n", "../a", "a/b", "-a", "a" * 129, "ä"])
def test_a_node_id_is_a_plain_word(node_id: str) -> None:
    with pytest.raises(BadRequest):
        Decoder(Join)(json.dumps({"node-id": node_id, "node-address": "http://a.example"}).encode())


@pytest.mark.parametrize(
    "address", ["a.example", "ftp://a.example", "http://", "http://user@a", "http:// a", "x" * 3000]
)
def test_an_address_is_a_url(address: str) -> None:
    with pytest.raises(BadRequest):
        Decoder(Join)(json.dumps({"node-id": "a", "node-address": address}).encode())


def test_the_rfcs_own_join_is_taken() -> None:
    said = b'{"node-id": "alice", "node-address": "http://alice.example:5001"}'

    assert Decoder(Join)(said) == Join("alice", "http://alice.example:5001")
