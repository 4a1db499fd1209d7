"""Networks that meet, and networks that are cut in two: what is found, and who notices."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from grid.dht.ids import tag_key
from grid.dht.peer import Peer
from grid.dht.upkeep import Upkeep
from grid.dht.whole import GIVEN_UP, WINDOW, Change, Whole
from grid.wire.dht import Want
from tests.sim.net import START, Net, identity, record
from tests.warp import loop_time, warped

PUBLISH = 600.0
SIZE = 14


def address(number: int) -> str:
    return f"http://10.0.0.{number}:1"


class World:
    """Peers that look after themselves, each with a tag of its own, on two islands: even and odd ones."""

    def __init__(self, size: int, apart: bool) -> None:
        self.net, self.size = Net(0), size
        self.peers: list[Peer] = []
        self.upkeeps: list[Upkeep] = []
        self.noticed: list[Change] = []
        self._bell = asyncio.Event()
        for number in range(size):
            self.peers.append(self.net.add(number, address=address(number)))
            self.net.islands[address(number)] = number % 2 if apart else 0
        self.net._seeded.update(self.net.peers)

    def divide(self) -> None:
        self.net.islands = {address(number): number % 2 for number in range(self.size)}

    def unite(self) -> None:
        self.net.islands = {address(number): 0 for number in range(self.size)}

    async def live(self, story: Callable[[], Awaitable[None]], step: int) -> None:
        """Every peer joins through the one `step` before it and lives as long as the story."""
        async with asyncio.TaskGroup() as group:
            tasks = list[asyncio.Task[None]]()
            for number, peer in enumerate(self.peers):
                upkeep = Upkeep(peer, [address(number - step)] if number >= step else [])
                upkeep.noticed = self._notice
                upkeep.grown = self._publishing(number)
                self.upkeeps.append(upkeep)
                await upkeep.connect()
                tasks.append(group.create_task(upkeep.run()))
                tasks.append(group.create_task(self._publish(number)))
            await story()
            for task in tasks:
                task.cancel()

    async def all_noticed(self, changes: int) -> None:
        """Wait until so many changes were noticed."""
        async with asyncio.timeout(3 * WINDOW):
            while len(self.noticed) < changes:
                self._bell.clear()
                await self._bell.wait()

    async def _notice(self, change: Change) -> None:
        self.noticed.append(change)
        self._bell.set()

    def _publishing(self, number: int) -> Callable[[], Awaitable[None]]:
        async def publish() -> None:
            peer = self.peers[number]
            peer.answers.record = signed = record(
                identity(number + 1), f"#{number}", at=self.net.now(), name=f"n{number}", address=address(number)
            )
            await peer.announce(signed, self.net.network.keys(peer.answers.said, signed.signer))  # type: ignore[arg-type]

        return publish

    async def _publish(self, number: int) -> None:
        publish = self._publishing(number)
        while True:
            await publish()
            await asyncio.sleep(PUBLISH * (0.8 + 0.4 * self.net.chance.random()))

    async def found(self, asker: int) -> set[int]:
        """Whose tags a peer finds."""
        some = range(self.size)
        got = await asyncio.gather(
            *(self.peers[asker].collect(tag_key(f"#{each}", ""), Want(all=(f"#{each}",))) for each in some)
        )
        return {each for each, one in zip(some, got, strict=True) if one.records}


EVEN, ODD = set(range(0, SIZE, 2)), set(range(1, SIZE, 2))


def test_two_networks_that_meet_at_one_peer_become_one() -> None:
    world = World(SIZE, apart=True)

    async def story() -> None:
        await asyncio.sleep(1200)
        assert (await world.found(0), await world.found(1)) == (EVEN, ODD)
        world.unite()
        world.upkeeps[4]._bootstrap = [address(9)]
        await asyncio.sleep(2 * PUBLISH)
        for asker in range(SIZE):
            assert await world.found(asker) == EVEN | ODD

    warped(world.live(story, step=2))

    assert world.noticed == []  # nobody fell silent


def test_a_network_that_is_cut_in_two_is_said_to_be_and_is_one_again_once_it_can() -> None:
    world = World(SIZE, apart=False)

    async def story() -> None:
        await asyncio.sleep(1200)
        assert await world.found(3) == EVEN | ODD
        world.divide()
        cut = loop_time()
        await world.all_noticed(SIZE)
        assert loop_time() - cut < WINDOW
        await asyncio.sleep(1200)
        for asker, own in ((0, EVEN), (1, ODD)):
            assert await world.found(asker) >= own  # and, of the others, whose records did not end yet
        world.unite()
        await asyncio.sleep(1.2 * PUBLISH)
        for asker in range(SIZE):
            assert await world.found(asker) == EVEN | ODD
        await world.all_noticed(2 * SIZE)

    warped(world.live(story, step=1))

    assert [change.split for change in world.noticed].count(True) == SIZE
    assert all(peer.whole.since is None for peer in world.peers)


def test_peers_that_go_one_by_one_are_no_split_and_those_who_stay_away_are_given_up() -> None:
    whole = Whole()
    for number in range(20):
        whole.lost(bytes([number]) * 20, address(number), START + 100 * number)
        assert whole.look(30, START + 100 * number) is None
    now = START + 2000
    for number in range(20, 30):
        whole.lost(bytes([number]) * 20, address(number), now)
    split = whole.look(20, now)
    assert split is not None
    assert split.split
    assert whole.look(20, now + 100) is None
    over = whole.look(20, now + GIVEN_UP)
    assert over is not None
    assert (over.split, whole.silent, whole.addresses()) == (False, 0, [])


def test_a_peer_that_nobody_calls_learns_of_those_who_came_after_it() -> None:
    async def story() -> list[str]:
        net = Net(0)
        first, hidden, second = (net.add(number, address=address(number)) for number in range(3))
        net._seeded.update(net.peers)
        hidden.answers.record = record(identity(2), address=address(1), listens=False)
        assert len(first.table) == 0
        upkeep = Upkeep(hidden, [address(0)])
        async with asyncio.TaskGroup() as group:
            tending = group.create_task(upkeep.run())
            await asyncio.sleep(1)
            await second.bootstrap([address(0)])
            await first.tend()
            await asyncio.sleep(15)
            tending.cancel()
        return sorted(contact.address for contact in hidden.table)

    assert warped(story()) == [address(0), address(2)]
