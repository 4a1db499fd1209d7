from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import pytest

from grid.gateway.ask import Answer
from grid.gateway.register import Register
from grid.gateway.search import Searches
from grid.wire.directory import Found, Search
from tests.gateway.fakes import Clock, Key, MemoryStore, open_world, rfc

SLOW = b"..."


class Nodes:
    """Nodes of the RFC, by address: bytes they answer with, tags they have, or None for the dead."""

    def __init__(self) -> None:
        self.at: dict[str, bytes | set[str] | None] = {}
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    async def __call__(self, method: str, url: str, body: bytes | None = None, *, deadline: float) -> Answer | None:
        query = json.loads(body or b"")["query"]
        self.asked.append((url, tuple(query)))
        node = self.at.get(url.removesuffix("/search"))
        if node is SLOW:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), deadline)
        if isinstance(node, set):
            return Answer(200, json.dumps({"content": set(query) <= node, "more": 1}).encode(), 0.001)
        return Answer(200, node, 0.001) if node and node is not SLOW else None


class Grid:
    """A register with some members, and a search over them."""

    def __init__(self, most: int = 256) -> None:
        self.clock, self.nodes = Clock(), Nodes()
        self.register = Register(MemoryStore(), open_world, self.clock, allow_unsigned=True)
        self.searches = Searches(self.register.roll, self.nodes, self.clock, deadline=0.05, most=most)

    async def signed(self, node_id: str, *tags: str, has: set[str] | None = None) -> None:
        address = f"http://{node_id}.example"
        await self.register.join(Key(len(self.nodes.at) + 1).join(node_id, *tags, address=address))
        self.nodes.at[address] = set(tags) if has is None else has

    async def rfc(self, node_id: str, node: bytes | set[str] | None) -> None:
        await self.register.join(rfc(node_id, f"http://{node_id}.example"))
        self.nodes.at[f"http://{node_id}.example"] = node

    async def found(self, *query: str, **how: object) -> tuple[list[str], list[str]]:
        """Ids found, and ids that were silent."""
        found = await self.searches.search(Search(query, **how))  # type: ignore[arg-type]
        return [node_id for node_id, _ in found.node_addresses], list(found.silent)


@pytest.fixture
def grid() -> Grid:
    return Grid()


async def test_all_tags_are_meant_unless_any_is_asked(grid: Grid) -> None:
    await grid.signed("alice", "#x", "#y")
    await grid.signed("bob", "#x")

    assert await grid.found("#x", "#y") == (["alice"], [])
    assert await grid.found("#x", "#y", match="any") == (["alice", "bob"], [])
    assert await grid.found() == ([], [])


async def test_advertised_tags_are_answered_without_asking_anybody(grid: Grid) -> None:
    await grid.signed("alice", "#x")

    assert await grid.found("#x") == (["alice"], [])
    assert grid.nodes.asked == []


async def test_a_node_that_advertises_nothing_is_asked_as_the_rfc_describes(grid: Grid) -> None:
    await grid.rfc("Bob", {"#x", "#y"})
    await grid.rfc("Carol", {"#y"})

    assert await grid.searches.search(Search(("#y", "#x"))) == Found((("Bob", "http://Bob.example"),), ("Bob",))
    assert set(grid.nodes.asked) == {
        ("http://Bob.example/search", ("#x", "#y")),
        ("http://Carol.example/search", ("#x", "#y")),
    }


async def test_for_any_tag_an_rfc_node_is_asked_for_each(grid: Grid) -> None:
    await grid.rfc("Bob", {"#x"})
    await grid.rfc("Carol", {"#z"})

    assert await grid.found("#x", "#y", match="any") == (["Bob"], [])


@pytest.mark.parametrize(
    "node",
    [None, SLOW, b"", b"not json", b'{"content": "yes"}', b"[" * 5000, b'{"content": 1}', b"\xff\xfe"],
    ids=["dead", "slow", "empty", "garbage", "wrong-type", "deep", "number", "no-text"],
)
@pytest.mark.parametrize("live", [False, True])
async def test_a_node_that_does_not_answer_well_breaks_nothing_and_is_named(
    node: bytes | None, live: bool, grid: Grid
) -> None:
    await grid.signed("alice", "#x")
    await grid.rfc("Bob", node)
    await grid.rfc("Carol", {"#x"})

    assert await grid.found("#x", live=live) == (["Carol", "alice"], ["Bob"])


async def test_a_slow_node_is_not_waited_for_twice(grid: Grid) -> None:
    await grid.rfc("Bob", SLOW)

    await grid.found("#x")
    assert await grid.found("#x") == ([], ["Bob"])
    assert len(grid.nodes.asked) == 1
    grid.clock.passes(16)
    await grid.found("#x")
    assert len(grid.nodes.asked) == 2


async def test_live_believes_the_nodes_and_not_the_index(grid: Grid) -> None:
    await grid.signed("alice", "#x", has=set())
    await grid.signed("bob", "#other", has={"#x"})

    assert await grid.found("#x", live=True) == (["bob"], [])


async def test_one_search_asks_only_so_many_nodes() -> None:
    grid = Grid(most=4)
    for number in range(8):
        await grid.rfc(f"rfc{number}", {"#x"})

    found, silent = await grid.found("#x")

    assert found == ["rfc0", "rfc1", "rfc2", "rfc3"]
    assert silent == ["rfc4", "rfc5", "rfc6", "rfc7"]
    assert len(grid.nodes.asked) == 4


async def test_many_tags_are_not_a_way_to_ask_more() -> None:
    grid = Grid(most=4)
    for number in range(8):
        await grid.rfc(f"rfc{number}", {"#x"})

    await grid.found("#1", "#2", match="any")

    assert len(grid.nodes.asked) == 4


async def test_members_that_are_offline_are_neither_found_nor_asked(grid: Grid) -> None:
    await grid.signed("alice", "#x")
    await grid.rfc("Bob", {"#x"})
    grid.clock.passes(91)
    grid.register.lapse()

    assert await grid.found("#x", live=True) == ([], [])
    assert grid.nodes.asked == []


async def test_suspects_come_last(grid: Grid) -> None:
    await grid.signed("alice", "#x")
    await grid.signed("bob", "#x")
    for listed in grid.register.roll:
        grid.register.answered(listed, 0.01, busy=False)
    alice = grid.register.roll.get("alice")
    assert alice
    grid.register.silent(alice)

    assert await grid.found("#x") == (["bob", "alice"], [])


async def test_for_whoever_reads_a_mailbox_the_index_speaks() -> None:
    grid = Grid()
    key = Key(200)
    hidden = f"http://gateway.example/v1/mailboxes/{key.id}"
    await grid.register.join(key.join("hidden", "#mri", address=hidden))
    await grid.signed("open", "#mri")

    found = await grid.searches.search(Search(("#mri",), live=True))
    none = await grid.searches.search(Search(("#ct",), live=True))

    assert [node for node, _ in found.node_addresses] == ["hidden", "open"]
    assert found.silent == none.silent == none.node_addresses == ()
    assert not any("mailboxes" in url for url, _ in grid.nodes.asked)
