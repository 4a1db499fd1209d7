"""Calls and answers as the payload of letters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import sha256
from io import BytesIO

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.client.letters import HEAD, KIND, Answer, Call, seal, unseal
from grid.client.payload import once
from grid.crypto.envelope import Context, Header
from grid.crypto.identity import Identity
from grid.crypto.prekeys import Prekey, publish, read_published
from grid.crypto.sealing import Opener, seal_bytes
from grid.wire.problems import BadRequest, EnvelopeRefused

NOW = 1_800_000_000
ANN, BOB = (Identity.from_seed(name.encode().ljust(32)) for name in ("ann", "bob"))
PREKEY = Prekey.generate()
PUBLIC = read_published(publish(BOB, PREKEY, NOW, NOW + 60), BOB.public, NOW)
HEADER = Header(sender=ANN.public, audience=BOB.public, kind=KIND, created=NOW, expires=NOW + 60)
CALL = Call("POST", "/v1/x?a=1", {"Accept": "application/json"}, "label", b"prekey", 30.0)


def opener() -> Opener:
    return Opener(BOB.public, {PREKEY.id: PREKEY}.get, Context("", 0, KIND, direct=True), NOW)


@pytest.mark.parametrize("head", [CALL, Answer("0" * 64, 206, {"ETag": '"x"'})])
@pytest.mark.parametrize("size", [0, 1, 1000, 600_000])
async def test_a_letter_opens_to_what_was_put_in(head: Call | Answer, size: int) -> None:
    body, out = bytes(range(256)) * (size // 256 + 1), BytesIO()
    name = await seal(ANN, HEADER, head, once(body[:size]), size, PUBLIC, out)
    assert name == sha256(out.getvalue()).hexdigest()

    opened, found, held = await unseal(opener(), once(out.getvalue()))

    assert (opened, found, held.size) == (name, head, size)
    assert await held.whole() == body[:size]
    held.close()


async def test_it_may_come_in_pieces_of_any_size() -> None:
    out = BytesIO()
    name = await seal(ANN, HEADER, CALL, once(b"body"), 4, PUBLIC, out)

    async def drops() -> AsyncIterator[bytes]:
        for byte in out.getvalue():
            yield bytes([byte])

    opened, found, held = await unseal(opener(), drops())
    assert (opened, found, await held.whole()) == (name, CALL, b"body")
    held.close()


@given(st.binary(max_size=200))
async def test_what_is_no_letter_is_refused_whoever_sealed_it(payload: bytes) -> None:
    with pytest.raises(BadRequest):
        await unseal(opener(), once(seal_bytes(ANN, HEADER, payload, [PUBLIC])))


@pytest.mark.parametrize(
    "head",
    [
        {"type": "Call", "method": "CONNECT"},
        {"type": "Call", "target": "http://elsewhere/"},
        {"type": "Call", "target": "/a b"},
        {"type": "Call", "label": "UPPER"},
        {"type": "Call", "patience": -1.0},
        {"type": "Call", "headers": {str(n): "x" for n in range(9)}},
        {"type": "Nothing"},
    ],
)
async def test_a_head_says_only_what_a_call_can(head: dict[str, object]) -> None:
    start = msgspec.msgpack.encode(msgspec.to_builtins(CALL, builtin_types=(bytes,)) | head)
    payload = len(start).to_bytes(4, "big") + start
    with pytest.raises(BadRequest):
        await unseal(opener(), once(seal_bytes(ANN, HEADER, payload, [PUBLIC])))


async def test_a_head_has_a_bound() -> None:
    payload = (HEAD + 1).to_bytes(4, "big") + bytes(HEAD + 1)
    with pytest.raises(BadRequest, match="too long"):
        await unseal(opener(), once(seal_bytes(ANN, HEADER, payload, [PUBLIC])))


async def test_one_that_was_altered_on_its_way_is_refused() -> None:
    out = BytesIO()
    await seal(ANN, HEADER, CALL, once(bytes(1000)), 1000, PUBLIC, out)
    letter = bytearray(out.getvalue())
    letter[-500] ^= 1
    with pytest.raises(EnvelopeRefused):
        await unseal(opener(), once(bytes(letter)))
