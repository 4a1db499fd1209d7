"""Peers that lie, peers that surround a key, and peers that have nothing to say."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from grid.crypto.identity import Identity
from grid.dht.answers import Answers
from grid.dht.ids import distance, peer_key, tag_key
from grid.dht.peer import Peer
from grid.wire.dht import Find, Kept, Near, Ping, Store, Want
from grid.wire.documents import Signed
from grid.wire.message import MSGPACK, encode
from grid.wire.problems import BadRequest
from tests.sim.net import START, Net, identity, record
from tests.warp import warped

OLD = record(identity(8_000_001), "#tag", at=START - 3600)
FOREIGN = record(identity(8_000_002), "#other")
FORGED = msgspec.structs.replace(record(identity(8_000_003), "#tag"), signature=bytes(64))
LONG = record(identity(8_000_004), "#tag", life=10**9)


class Liar(Answers):
    """Answers with what does not count, or keeps nothing and says it does."""

    def find(self, find: Find) -> Near:
        near = super().find(find)
        lies = (OLD, FOREIGN, FORGED, LONG, Signed(b"\xdd" * 40, "A" * 43, bytes(64)))
        fakes = tuple(msgspec.structs.replace(each, payload=b"\x81") for each in near.contacts[:10])
        return Near((*fakes, *near.contacts[10:]), near.now, lies, 99, None, near.proof)

    def store(self, store: Store) -> Kept:
        return Kept(True)


class Refuser(Answers):
    """Answers nothing that can be read."""

    def find(self, find: Find) -> Near:
        raise BadRequest("nonsense")


def turn(peer: Peer, kind: type[Answers]) -> None:
    bad = kind(peer.answers._identity, peer.network, peer.answers._now)
    bad.table, bad.record, bad.place = peer.answers.table, peer.answers.record, peer.answers.place
    peer.answers = bad


def test_three_of_ten_lie_and_every_answer_is_exact() -> None:
    async def story() -> None:
        net = Net(300)
        owners = [identity(10**6 + number) for number in range(5)]
        key = net.place("#tag", *(record(owner, "#tag") for owner in owners))
        for index, address in enumerate(net.chance.sample(sorted(net.peers), 90)):
            turn(net.peer(address), Liar if index % 2 else Refuser)
        honest = [peer for peer in net.peers.values() if type(peer.answers) is Answers]
        for _ in range(60):
            peer = net.peer(_address(net.chance.choice(honest)))
            found = await peer.collect(key, Want(all=("#tag",)))
            assert set(found.records) == {peer_key(owner.public) for owner in owners}

    warped(story())


def _address(peer: Peer) -> str:
    assert peer.answers.record is not None
    return peer.network.read(peer.answers.record, START).said.node_address


class Ring(Answers):
    """Knows nobody but its own kind, and of no records; what it is given it says to keep."""

    kind: tuple[Signed, ...] = ()

    def find(self, find: Find) -> Near:
        near = super().find(find)
        return Near(self.kind[:20], near.now, proof=near.proof)

    def store(self, store: Store) -> Kept:
        return Kept(True)


@pytest.fixture(scope="module")
def made() -> list[Identity]:
    """As many keys as it takes to have some nearer to any tag than a thousand peers: seconds of one core."""
    return [identity(2 * 10**6 + number) for number in range(40_000)]


async def surrounded(made: list[Identity], cap: int, trial: int) -> tuple[int, bool]:
    """Honest holders of a record that is published inside a ring of liars, and whether it is found."""
    net, tag = Net(1000, trial, cap), f"#tag-{trial}"
    key = tag_key(tag, "")
    near = sorted(made, key=lambda who: distance(peer_key(who.public), key))[:40]
    ring = [net.add(0, who, f"http://8.8.8.8:{number + 1}") for number, who in enumerate(near)]
    Ring.kind = tuple(each.answers.record for each in ring if each.answers.record)
    net.forget_acquaintances()
    for peer in ring:
        turn(net.peer(_address(peer)), Ring)
    await net.alive().publish(key, record(identity(10**6), tag))
    holders = sum(peer.shelf.kept(key) for peer in net.peers.values() if peer not in ring)
    return holders, bool((await net.alive().collect(key, Want(all=(tag,)))).records)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_forty_keys_made_to_surround_a_tag_hide_it_only_without_a_cap(made: list[Identity]) -> None:
    async def story(cap: int) -> list[tuple[int, bool]]:
        return [await surrounded(made, cap, trial) for trial in range(6)]

    capped, uncapped = warped(story(2)), warped(story(10**6))

    assert all(found and holders >= 10 for holders, found in capped), capped
    assert max(holders for holders, _ in uncapped) <= 2
    assert sum(found for _, found in uncapped) <= 3


def test_a_stranger_enters_no_table_before_it_answers_where_it_says_it_is() -> None:
    async def story() -> None:
        net = Net(1)
        (peer,) = net.peers.values()
        liar = record(identity(9), address="http://10.0.0.99:1")
        peer.answers.find(Find(bytes(20), sender=liar))
        assert len(peer.table) == 0
        net.dead.add("http://10.0.0.99:1")
        await peer.tend()
        assert len(peer.table) == 0

        newcomer = net.add(7)
        peer.answers.find(Find(bytes(20), sender=newcomer.answers.record))
        await peer.tend()
        assert len(peer.table) == 1

    warped(story())


def test_another_key_at_the_address_is_not_who_was_expected() -> None:
    async def story() -> None:
        net = Net(2)
        one, two = net.peers.values()
        stolen = record(identity(99), address=_address(two))
        one.answers.find(Find(bytes(20), sender=stolen))
        await one.tend()
        assert len(one.table) == 0

    warped(story())


def test_peers_that_join_through_one_find_what_any_of_them_publishes() -> None:
    async def story() -> None:
        net = Net(0)
        peers = [net.add(number) for number in range(40)]
        net._seeded.update(net.peers)  # nobody knows anybody
        for peer in peers[1:]:
            assert await peer.bootstrap([_address(peers[0])]) == 1
            await peers[0].tend()
        for peer in peers:
            await peer.tend()
        key = tag_key("#tag", "")
        assert await peers[3].publish(key, record(identity(4), "#tag")) >= 20
        for peer in (peers[0], peers[39], peers[17]):
            assert len((await peer.collect(key, Want())).records) == 1
        net.dead.add("http://10.9.9.9:1")
        assert await peers[5].bootstrap(["http://10.9.9.9:1"]) == 0

    warped(story())


def test_where_nothing_happens_nearly_nothing_is_said_and_it_does_not_grow() -> None:
    async def story() -> list[int]:
        net = Net(60)
        net.place("#tag", *(record(identity(10**6 + number), "#tag") for number in range(20)))
        said = []
        for _ in range(4):
            before = net.calls
            for _ in range(15):
                await asyncio.gather(*(net.peer(address).tend() for address in net.peers))
                await asyncio.sleep(60)
            said.append(net.calls - before)
        return said

    said = warped(story())

    assert max(said) <= 60 * 15 * 4  # four calls a minute and node
    assert said[2] + said[3] <= 1.2 * (said[0] + said[1])


def test_a_caller_is_asked_with_no_more_bytes_than_it_sent() -> None:
    sent = encode(Find(bytes(20), sender=record(identity(9))), MSGPACK)

    assert len(encode(Ping(bytes(16)), MSGPACK)) < len(sent)
