"""Hours in which nobody stays for long: peers come and go, and what those that are there publish is found."""

from __future__ import annotations

import asyncio

import pytest

from grid.dht.ids import tag_key
from grid.dht.peer import Peer
from grid.dht.records import LIFE
from grid.wire.dht import Want
from tests.sim.net import START, Net, identity, record
from tests.warp import warped

HALF_LIFE = 1800.0
STEP = 120.0
TURNS = 90
PUBLISH = 5
"""Steps between two times that an owner publishes: ten minutes."""


class Hours:
    """`size` peers, of which half are replaced by others in half an hour, each with a tag of its own."""

    def __init__(self, size: int) -> None:
        self.net = Net(0)
        self.size, self._next = size, 0
        self.there: dict[int, Peer] = {}
        self.asked = self.found = self.expired = 0
        self.holders: list[int] = []

    async def begin(self) -> None:
        for _ in range(self.size):
            await self.come()
        for number in list(self.there):
            await self.publish(number)

    async def come(self) -> None:
        number, self._next = self._next, self._next + 1
        peer = self.net.add(number)
        self.net._seeded.update(self.net.peers)
        self.sign(number, peer)
        known = self.net.chance.sample(sorted(self.there), min(3, len(self.there)))
        self.there[number] = peer
        if known:
            await peer.bootstrap([address(each) for each in known])
            await self.publish(number)

    def sign(self, number: int, peer: Peer) -> None:
        peer.answers.record = record(
            identity(number + 1), f"#{number}", at=self.net.now(), name=f"n{number}", address=address(number)
        )

    async def publish(self, number: int) -> None:
        peer = self.there[number]
        self.sign(number, peer)
        assert peer.answers.record is not None
        keys = (peer.answers.place, tag_key(f"#{number}", ""))
        await peer.announce(peer.answers.record, keys)

    async def step(self, turn: int) -> None:
        gone = [number for number in self.there if self.net.chance.random() < 1 - 0.5 ** (STEP / HALF_LIFE)]
        for number in gone:
            del self.there[number]
            self.net.dead.add(address(number))
        await asyncio.gather(*(self.come() for _ in gone))
        await asyncio.gather(*(peer.tend() for peer in self.there.values()))
        due = [number for number in self.there if number % PUBLISH == turn % PUBLISH]
        await asyncio.gather(*(self.publish(number) for number in due))
        await self.search()

    async def search(self) -> None:
        for number in self.net.chance.sample(sorted(self.there), 3):
            asker = self.there[self.net.chance.choice(sorted(self.there))]
            found = await asker.collect(tag_key(f"#{number}", ""), Want(all=(f"#{number}",)))
            self.asked += 1
            self.found += len(found.records) == 1
            self.expired += sum(held.said.expires <= self.net.now() for held in found.records.values())


def address(number: int) -> str:
    return f"http://10.{number >> 16}.{(number >> 8) & 255}.{number & 255}:1"


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_while_peers_come_and_go_what_is_there_is_found() -> None:
    async def story() -> Hours:
        hours = Hours(30)
        await hours.begin()
        for turn in range(TURNS):
            await hours.step(turn)
            await asyncio.sleep(max(0.0, START + (turn + 1) * STEP - hours.net.now()))
        return hours

    hours = warped(story())

    assert hours.asked == hours.found == 3 * TURNS
    assert hours.expired == 0
    for peer in hours.there.values():
        assert len(peer.shelf) <= 2 * 30 * (1 + LIFE / HALF_LIFE)
