"""A network in memory, on a loop where no time is lost: peers, delays, and peers that are no longer there.

Every call is the first between its two: TCP and TLS take two round trips before the third carries the words.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left
from collections.abc import Iterable
from typing import TypeVar

from grid.crypto.identity import Identity
from grid.dht.ids import BITS, tag_key
from grid.dht.peer import Peer
from grid.dht.records import LIFE, Network
from grid.dht.table import OF_GROUP, Contact, K
from grid.protocol.documents import sign_document
from grid.wire.dht import Find, Kept, Near, PeerRecord, Ping, Pong, Store
from grid.wire.directory import NODE_RECORD
from grid.wire.documents import Signed

T = TypeVar("T")
START = 1_800_000_000.0
ROUND_TRIP = (0.03, 0.09)
TRIPS = 3


def identity(number: int) -> Identity:
    return Identity.from_seed(number.to_bytes(32, "big"))


def record(
    who: Identity,
    *tags: str,
    at: float = START,
    name: str = "node",
    address: str = "http://10.0.0.1:1",
    network: str = "",
    life: float = LIFE,
    listens: bool = True,
    membership: Signed | None = None,
) -> Signed:
    said = PeerRecord(
        node_id=name,
        node_address=address,
        version=int(at * 1000),
        expires=at + life,
        tags=tags,
        public_key=who.id,
        network=network,
        listens=listens,
        membership=membership,
    )
    return sign_document(who, NODE_RECORD, said)


class Line:
    """How the peer at an address reaches the others."""

    def __init__(self, net: Net, own: str) -> None:
        self._net, self._own = net, own

    async def find(self, address: str, find: Find) -> Near:
        return (await self._net.reach(address, self._own)).answers.find(find)

    async def store(self, address: str, store: Store) -> Kept:
        return (await self._net.reach(address, self._own)).answers.store(store)

    async def ping(self, address: str, ping: Ping) -> Pong:
        return (await self._net.reach(address, self._own)).answers.ping(ping)


class Net:
    """`size` peers that know each other as peers do after a while: of each range of keys some, of the own all."""

    def __init__(self, size: int, seed: int = 1, of_group: int = OF_GROUP) -> None:
        self.chance = random.Random(seed)
        self.network, self._of_group = Network(), of_group
        self.dead: set[str] = set()
        self.islands: dict[str, int] = {}  # of peers that reach those of their own alone
        self.calls = 0
        self.peers: dict[str, Peer] = {}
        self._contacts: list[Contact] = []
        self._seeded: set[str] = set()
        self._order: list[int] = []
        for number in range(size):
            self.add(number)

    def now(self) -> float:
        return START + asyncio.get_running_loop().time()

    def add(self, number: int, who: Identity | None = None, address: str = "") -> Peer:
        who = who or identity(number + 1)
        address = address or f"http://10.{number >> 16}.{(number >> 8) & 255}.{number & 255}:1"
        peer = Peer(
            who, self.network, Line(self, address), now=self.now, entropy=self.chance.randbytes, of_group=self._of_group
        )
        peer.answers.record = record(who, name=f"node-{number}", address=address)
        self._contacts.append(Contact(self.network.read(peer.answers.record, START)))
        self.peers[address] = peer
        return peer

    async def reach(self, address: str, caller: str) -> Peer:
        self.calls += 1
        await asyncio.sleep(TRIPS * self.chance.uniform(*ROUND_TRIP))
        if address in self.dead or self.islands.get(address) != self.islands.get(caller):
            await asyncio.Event().wait()
        return self.peer(address)

    def peer(self, address: str) -> Peer:
        peer = self.peers[address]
        if address not in self._seeded:
            self._seeded.add(address)
            for contact in self._acquaintances(peer.answers.place):
                peer.table.heard(contact, START)
        return peer

    def alive(self) -> Peer:
        return self.peer(self.chance.choice([each for each in self.peers if each not in self.dead]))

    def kill(self, share: float) -> None:
        self.dead.update(self.chance.sample(sorted(self.peers), int(share * len(self.peers))))

    def keepers(self, key: bytes) -> list[Peer]:
        at = int.from_bytes(key, "big")
        return [self.peer(each.address) for each in sorted(self._contacts, key=lambda each: each.long_id ^ at)[:K]]

    def place(self, tag: str, *records: Signed) -> bytes:
        """Records where those nearest to their tag keep them."""
        key = tag_key(tag, "")
        for keeper in self.keepers(key):
            for signed in records:
                keeper.shelf.put(key, signed, START)
        return key

    def forget_acquaintances(self) -> None:
        """Everybody meets everybody anew, those that came last too."""
        self._seeded.clear()
        for peer in self.peers.values():
            peer.table.flush()

    def _line_up(self) -> None:
        if len(self._order) < len(self._contacts):
            self._contacts.sort(key=lambda each: each.long_id)
            self._order = [each.long_id for each in self._contacts]

    def _acquaintances(self, place: bytes) -> Iterable[Contact]:
        self._line_up()
        mine, low, high = int.from_bytes(place, "big"), 0, 1 << BITS
        while True:
            middle = (low + high) // 2
            left, right = (low, middle), (middle, high)
            own, other = (left, right) if mine < middle else (right, left)
            yield from self._some(*other)
            low, high = own
            if bisect_left(self._order, high) - bisect_left(self._order, low) <= K:
                yield from self._some(low, high)
                return

    def _some(self, low: int, high: int) -> list[Contact]:
        first, last = bisect_left(self._order, low), bisect_left(self._order, high)
        chosen = range(first, last) if last - first <= K else self.chance.sample(range(first, last), K)
        return [self._contacts[index] for index in chosen]


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]
