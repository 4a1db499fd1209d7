"""One payload for many: sealed once, opened by each with a key of its own."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from grid.client.payload import BLOCK, opened, read_prekey, streamed
from grid.crypto.envelope import Context, Header
from grid.crypto.identity import Identity
from grid.crypto.prekeys import Prekey, PrekeyPublic, publish
from grid.crypto.sealing import Opener
from grid.node.broadcast import Broadcast
from grid.wire.problems import EnvelopeRefused

NOW = 1_800_000_000.0
SENDER = Identity.from_seed(b"s" * 32)
PAYLOAD = bytes(range(256)) * (BLOCK // 100)
CONTEXT = Context(run="r", round=1, kind="model", sender=SENDER.public)


class Reader:
    def __init__(self, seed: int) -> None:
        self.identity, self.prekey = Identity.from_seed(bytes([seed]) * 32), Prekey.generate()

    def public(self) -> PrekeyPublic:
        return read_prekey(publish(self.identity, self.prekey, NOW, NOW + 60), self.identity.public, NOW)

    async def opens(self, envelope: list[bytes]) -> bytes:
        opener = Opener(self.identity.public, {self.prekey.id: self.prekey}.get, CONTEXT, NOW)
        return b"".join([bytes(piece) async for piece in opened(opener, streamed(envelope))])


async def a_broadcast(folder: Path) -> Broadcast:
    header = Header(sender=SENDER.public, kind="model", run="r", round=1, created=int(NOW), expires=int(NOW + 60))
    (folder / "plain").write_bytes(PAYLOAD)
    return await Broadcast.seal(SENDER, header, folder / "plain", folder / "sealed")


async def test_everybody_invited_opens_it_and_nobody_opens_anothers(tmp_path: Path) -> None:
    broadcast, ann, bob = await a_broadcast(tmp_path), Reader(1), Reader(2)

    for_ann = [block async for block in broadcast.envelope(ann.public())]
    for_bob = [block async for block in broadcast.envelope(bob.public())]

    assert await ann.opens(for_ann) == await bob.opens(for_bob) == PAYLOAD
    assert sum(map(len, for_ann)) == sum(map(len, for_bob)) == broadcast.size
    assert max(map(len, for_ann)) <= BLOCK
    with pytest.raises(EnvelopeRefused):
        await bob.opens(for_ann)


async def test_parts_in_memory_are_sealed_as_a_file_is_over_one_that_is_done_with(tmp_path: Path) -> None:
    ann, old = Reader(1), tmp_path / "old"
    old.write_bytes(bytes(3 * len(PAYLOAD)))
    header = Header(sender=SENDER.public, kind="model", run="r", round=1, created=int(NOW), expires=int(NOW + 60))
    parts = [PAYLOAD[:1000], memoryview(PAYLOAD)[1000:]]

    broadcast = await Broadcast.seal(SENDER, header, parts, tmp_path / "sealed", old)

    assert await ann.opens([block async for block in broadcast.envelope(ann.public())]) == PAYLOAD
    assert [path.name for path in tmp_path.iterdir()] == ["sealed"]


async def test_whoever_has_begun_to_read_reads_to_the_end_though_it_is_discarded(tmp_path: Path) -> None:
    broadcast, ann = await a_broadcast(tmp_path), Reader(1)
    envelope = broadcast.envelope(ann.public())
    first = await anext(envelope)

    broadcast.discard()
    broadcast.discard()

    assert await ann.opens([first, *[block async for block in envelope]]) == PAYLOAD
    assert [path.name for path in tmp_path.iterdir()] == ["plain"]


async def test_an_envelope_can_be_had_in_parts(tmp_path: Path) -> None:
    broadcast, ann = await a_broadcast(tmp_path), Reader(1)
    prekey = ann.public()
    cuts = [0, 1, 700, BLOCK, BLOCK + 5, broadcast.size]

    parts = [
        b"".join([block async for block in broadcast.envelope(prekey, begin, end)]) for begin, end in pairwise(cuts)
    ]

    assert [len(part) for part in parts] == [end - begin for begin, end in pairwise(cuts)]
    assert await ann.opens(parts) == PAYLOAD


async def test_the_bytes_of_an_envelope_have_a_name_of_their_own(tmp_path: Path) -> None:
    broadcast, ann, bob = await a_broadcast(tmp_path), Reader(1), Reader(2)
    first = ann.public()
    name = broadcast.tag(first)

    assert broadcast.tag(first) == name
    assert broadcast.tag(bob.public()) != name
    ann.prekey = Prekey.generate()
    assert broadcast.tag(ann.public()) != name
    assert (await a_broadcast(tmp_path)).tag(first) != name
