"""A letter as it comes in, block by block."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from grid.crypto.envelope import Header
from grid.crypto.identity import Identity
from grid.crypto.prekeys import Prekey, publish, read_published
from grid.crypto.sealing import seal_bytes
from grid.relay.letters import Arrival
from grid.store.blobs import Blobs
from grid.wire.problems import BadRequest, EnvelopeRefused
from grid.wire.relay import INLINE
from tests.gateway.fakes import START

ANN, BOB = (Identity.from_seed(name.encode().ljust(32)) for name in ("ann", "bob"))
PREKEY = read_published(publish(BOB, Prekey.generate(), START, START + 60), BOB.public, START)


def letter(payload: bytes) -> bytes:
    header = Header(sender=ANN.public, audience=BOB.public, kind="call", created=int(START), expires=int(START) + 60)
    return seal_bytes(ANN, header, payload, [PREKEY])


class Desk:
    """Where letters arrive; counts the room that is given back."""

    def __init__(self, folder: Path) -> None:
        self.blobs, self.released = Blobs(folder), 0

    def arrival(self) -> Arrival:
        return Arrival(ANN.id, BOB.id, self.blobs, START, self._release)

    def drafts(self) -> int:
        return len(list((self.blobs.folder / ".drafts").iterdir()))

    def _release(self) -> None:
        self.released += 1


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def come(arrival: Arrival, data: bytes, step: int = 1000) -> Arrival:
    for begin in range(0, len(data), step):
        arrival.write(data[begin : begin + step])
    return arrival


async def test_a_small_letter_stays_in_memory(desk: Desk) -> None:
    data = letter(b"hello")
    arrival = come(desk.arrival(), data)

    assert (await arrival.finish(sha256(data).hexdigest(), "name")).sender == ANN.public
    assert arrival.body == data
    assert desk.drafts() == 0


async def test_a_large_letter_goes_to_a_file_byte_for_byte(desk: Desk) -> None:
    data = letter(bytes(INLINE))
    arrival = come(desk.arrival(), data)
    assert desk.drafts() == 1
    await arrival.finish(sha256(data).hexdigest(), "name")

    assert arrival.body is None
    assert desk.blobs.named("name").read_bytes() == data


@pytest.mark.parametrize("payload", [b"hello", bytes(INLINE)])
async def test_what_is_thrown_away_gives_its_room_back_and_leaves_no_file(desk: Desk, payload: bytes) -> None:
    data = letter(payload)
    arrival = come(desk.arrival(), data[:-1])
    with pytest.raises(EnvelopeRefused):
        await arrival.finish(sha256(data[:-1]).hexdigest(), "name")
    arrival.abort()

    assert (desk.drafts(), desk.released) == (0, 1)
    assert not desk.blobs.named("name").exists()


async def test_bytes_of_another_name_are_refused(desk: Desk) -> None:
    with pytest.raises(BadRequest):
        await come(desk.arrival(), letter(b"hello")).finish("0" * 64, "name")
