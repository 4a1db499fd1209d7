"""The network as a directory, over HTTP on this machine: nothing of it is played but the node's own data."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from aiohttp import ClientSession, web

from grid.cli.network import Belonging, Place, invite, place
from grid.client.calls import Calls
from grid.client.egress import Egress, open_http
from grid.crypto.identity import Identity
from grid.dht.app import dht_routes
from grid.dht.front import Front, front_routes
from grid.dht.upkeep import PeerCache, Upkeep
from grid.protocol.documents import read_document, sign_document
from grid.transport.app import Routes, create_app
from grid.transport.auth import Authenticator
from grid.transport.body import reply
from grid.transport.hello import identity_handler, session_handler
from grid.transport.metrics import Metrics
from grid.transport.serve import running
from grid.wire.dht import FIND, KNOWN, PING, STORE, Ping
from grid.wire.directory import JOIN, NODE_RECORD, Join, Leave, NodeRecord, Renew, Search
from grid.wire.message import MSGPACK, encode
from grid.wire.node import DATASET_TAGS
from grid.wire.problems import GridError, NodeIdTaken, NotAMember, NotAuthenticated, Unreachable, UnsignedJoinRefused
from grid.wire.session import IDENTITY, SESSION
from tests.sim.net import identity, record


@dataclass
class Node:
    name: str
    who: Identity
    place: Place
    calls: Calls
    address: str
    tags: tuple[str, ...]

    def join(self) -> Join:
        said = NodeRecord(self.name, self.address, int(time.time() * 1000), time.time() + 9000, self.tags)
        return Join(self.name, self.address, sign_document(self.who, NODE_RECORD, said))

    async def listed(self) -> None:
        await self.place.directory.join(self.join())

    async def search(self, *tags: str, match: str = "all", live: bool = False) -> list[str]:
        found = await self.place.directory.search(Search(tags, match, live))  # type: ignore[arg-type]
        return [name for name, _ in found.node_addresses]


@asynccontextmanager
async def node(
    name: str,
    number: int,
    *tags: str,
    bootstrap: tuple[str, ...] = (),
    network: Belonging = Belonging(),  # noqa: B008
    cache: Path | None = None,
) -> AsyncIterator[Node]:
    who = identity(number)
    async with AsyncExitStack() as stack:
        egress = Egress(allow_private=True)
        calls = Calls(await stack.enter_async_context(open_http(egress)), identity=who)
        remembered = PeerCache(cache) if cache else None
        here = place(who, calls, egress, bootstrap, belonging=network, cache=remembered)
        auth = Authenticator(who, time.time)

        async def say_tags(request: web.Request) -> web.StreamResponse:
            return reply(DATASET_TAGS, tags, request=request)

        front = Front(here.peer, here.directory, time.time, set(tags).issuperset)
        routes: Routes = {
            **dht_routes(here.peer),
            **front_routes(front),
            DATASET_TAGS: say_tags,
            IDENTITY: identity_handler(who, "node", "1"),
            SESSION: session_handler(auth),
        }
        app = create_app(routes, auth=auth, metrics=Metrics(), about="A peer")
        address = await stack.enter_async_context(running(app, host="127.0.0.1", port=0))
        yield Node(name, who, here, calls, address, tags)


@asynccontextmanager
async def grid(*tagged: tuple[str, ...]) -> AsyncIterator[list[Node]]:
    """Nodes that joined through the first of them, and know each other."""
    async with AsyncExitStack() as stack:
        nodes = list[Node]()
        for number, tags in enumerate(tagged):
            first = (nodes[0].address,) if nodes else ()
            made = await stack.enter_async_context(node(f"n{number}", 500 + number, *tags, bootstrap=first))
            await made.listed()
            nodes.append(made)
            await nodes[0].place.peer.tend()
        for each in nodes:
            await each.place.peer.tend()
            await each.listed()
        yield nodes


async def test_and_or_and_live_find_what_a_gateway_would() -> None:
    async with grid(("#a", "#b"), ("#b",), ("#c",)) as nodes:
        for asker in nodes:
            assert await asker.search("#b") == ["n0", "n1"]
            assert await asker.search("#a", "#b") == ["n0"]
            assert await asker.search("#a", "#c", match="any") == ["n0", "n2"]
            assert await asker.search("#a", "#nobody") == []
            assert await asker.search() == []
        assert await nodes[2].search("#b", live=True) == ["n0", "n1"]


async def test_what_is_found_is_signed_by_whom_it_speaks_of() -> None:
    async with grid(("#a",), ()) as nodes:
        member = await nodes[1].place.directory.resolve("n0")
        by_key = await nodes[1].place.directory.resolve(nodes[0].who.id)

    assert member == by_key
    assert member.record is not None
    said = read_document(member.record, NodeRecord, NODE_RECORD, now=time.time(), signer=nodes[0].who.id)
    assert (said.node_id, said.node_address, said.tags) == ("n0", nodes[0].address, ("#a",))


async def test_a_record_outlives_the_peer_that_was_asked_first() -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(AsyncExitStack())
        one = await first.enter_async_context(node("one", 1, "#a"))
        await one.listed()
        two = await stack.enter_async_context(node("two", 2, bootstrap=(one.address,)))
        await two.listed()
        three = await stack.enter_async_context(node("three", 3, bootstrap=(one.address,)))
        await three.listed()
        await one.place.upkeep._once()  # sees that somebody came
        await first.aclose()

        assert await three.search("#a") == ["one"]
        with pytest.raises(GridError):
            await three.calls.call(one.address, PING, Ping(bytes(16)))


async def test_who_leaves_is_found_no_more_and_a_tag_that_went_neither() -> None:
    async with grid(("#a", "#b"), (), ()) as nodes:
        nodes[0].tags = ("#a",)
        await nodes[0].listed()
        assert await nodes[1].search("#b") == []
        assert await nodes[1].search("#a") == ["n0"]
        await nodes[0].place.directory.leave(Leave("n0", nodes[0].address))

        for asker in nodes[1:]:
            assert await asker.search("#a") == []
            with pytest.raises(NotAMember):
                await asker.place.directory.resolve("n0")
        with pytest.raises(NotAMember):
            await nodes[0].place.directory.renew(Renew("n0"))


async def test_two_keys_under_one_name_are_told_apart_by_their_keys() -> None:
    async with grid(("#a",), ("#a",), ()) as nodes:
        nodes[1].name = "n0"
        await nodes[1].listed()
        found = await nodes[2].place.directory.search(Search(("#a",)))

        assert found.unverified == ("n0",)
        with pytest.raises(NodeIdTaken, match="several keys"):
            await nodes[2].place.directory.resolve("n0")
        assert (await nodes[2].place.directory.resolve(nodes[0].who.id)).node_address == nodes[0].address


async def test_a_restart_with_the_same_key_on_another_port_is_found_there() -> None:
    async with grid((), (), ()) as nodes, AsyncExitStack() as stack:
        first = await stack.enter_async_context(AsyncExitStack())
        bootstrap = (nodes[0].address,)
        old = await first.enter_async_context(node("mover", 77, "#m", bootstrap=bootstrap))
        await old.listed()
        await first.aclose()
        new = await stack.enter_async_context(node("mover", 77, "#m", bootstrap=bootstrap))
        await new.listed()

        assert (await nodes[2].place.directory.resolve("mover")).node_address == new.address


async def test_contacts_are_remembered_over_a_restart_and_a_broken_file_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "network.json"
    async with grid(("#a",), ()) as nodes:
        async with node("late", 88, bootstrap=(nodes[0].address,), cache=file) as late:
            await late.listed()
            await late.place.upkeep.remember()
        assert nodes[0].address in PeerCache(file).load()
        async with node("late", 88, cache=file) as again:
            assert await again.search("#a") == ["n0"]
    for broken in (b"", b"[1]", b'["x"]', b"\xff" * 100):
        file.write_bytes(broken)
        assert PeerCache(file).load() == []


async def test_nobody_to_join_is_said_and_a_first_peer_needs_nobody() -> None:
    async with node("first", 1, "#a") as first:
        await first.listed()
        assert await first.search("#a") == ["first"]
    async with node("second", 2, bootstrap=("http://127.0.0.1:9",)) as second:
        with pytest.raises(Unreachable):
            await second.listed()


async def test_who_signs_nothing_is_not_listed() -> None:
    async with node("one", 1) as one:
        with pytest.raises(UnsignedJoinRefused):
            await one.place.directory.join(Join("one", one.address))


async def test_peers_of_another_network_have_nothing_to_say_to_each_other() -> None:
    async with grid(("#a",)) as nodes, node("x", 9, bootstrap=(nodes[0].address,), network=Belonging("other")) as other:
        with pytest.raises(Unreachable):
            await other.listed()
        assert len(other.place.peer.table) == 0


async def test_where_an_issuer_vouches_for_members_a_stranger_has_no_place(tmp_path: Path) -> None:
    issuer, ends = identity(900), time.time() + 9000
    (tmp_path / "secret").write_bytes(b"only we know\n")

    def belonging(number: int, by: Identity, group: str) -> Belonging:
        file = tmp_path / f"{number}.json"
        file.write_bytes(encode(invite(by, identity(number).id, "private", group, ends)))
        return Belonging("private", (issuer.id,), file, tmp_path / "secret")

    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(node("one", 1, "#a", network=belonging(1, issuer, "north")))
        await one.listed()
        first = (one.address,)
        two = await stack.enter_async_context(
            node("two", 2, "#a", bootstrap=first, network=belonging(2, issuer, "south"))
        )
        await two.listed()
        assert await two.search("#a") == ["one", "two"]
        stranger = await stack.enter_async_context(
            node("three", 3, "#a", bootstrap=first, network=belonging(3, identity(901), "x"))
        )
        with pytest.raises(GridError):
            await stranger.listed()
        await one.place.peer.tend()
        assert await two.search("#a") == ["one", "two"]
        assert one.place.peer.known().contacts == (two.address,)


async def test_an_address_that_policy_forbids_is_never_called() -> None:
    called = 0

    async def count(request: web.Request) -> web.StreamResponse:
        nonlocal called
        called += 1
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", count)
    async with running(app, host="127.0.0.1", port=0) as address:
        egress = Egress(allow_private=False)
        async with open_http(egress) as http:
            strict = place(identity(1), Calls(http), egress, ())
            assert await strict.peer.meet(address) is None
            assert await strict.peer.meet(address.replace("127.0.0.1", "2130706433")) is None
    assert called == 0


@pytest.mark.parametrize("endpoint", [FIND, STORE, PING])
@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"\x81" * 60_000, b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"]
)
async def test_random_bytes_are_refused_with_a_reason(endpoint: object, body: bytes) -> None:
    async with node("one", 1) as one, ClientSession() as http:
        await one.listed()
        url = one.address + endpoint.path  # type: ignore[attr-defined]
        async with http.post(url, data=body, headers={"Content-Type": MSGPACK}) as response:
            assert response.status == 400
            assert (await response.json())["type"] == "urn:grid:problem:bad-request"


async def test_only_the_owner_is_told_what_a_peer_knows() -> None:
    async with grid((), ()) as nodes:
        assert nodes[0].place.peer.known().contacts == (nodes[1].address,)
        with pytest.raises(NotAuthenticated):
            await Calls(nodes[1].calls._http).call(nodes[0].address, KNOWN)


class Gone(Exception):
    """Ends a loop."""


async def test_upkeep_finds_the_network_again_once_somebody_is_there() -> None:
    async with node("first", 1) as first, node("second", 2, bootstrap=("http://127.0.0.1:9",)) as second:
        await first.listed()
        pauses = list[float]()

        async def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 2:
                second.place.upkeep._bootstrap = (first.address,)
                upkeep._bootstrap = (first.address,)
            if len(second.place.peer.table):
                raise Gone

        upkeep = Upkeep(second.place.peer, ("http://127.0.0.1:9",), pause=pause)
        with pytest.raises(Gone):
            await upkeep.run()

    assert pauses[:2] == [1.0, 2.0]


async def test_a_peer_that_answers_for_another_key_enters_no_table() -> None:
    async with node("victim", 1) as victim, node("asker", 2) as asker:
        await victim.listed()

        async def ping(request: web.Request) -> web.StreamResponse:
            pong = await asker.calls.call(victim.address, PING, Ping(bytes(16)))  # for another nonce
            return web.Response(body=msgspec.msgpack.encode(pong), content_type=MSGPACK)

        app = web.Application()
        app.router.add_post(PING.path, ping)
        async with running(app, host="127.0.0.1", port=0) as liar:
            assert await asker.place.peer.meet(liar) is None
            assert await asker.place.peer.meet(victim.address) is not None


async def test_every_peer_answers_the_programs_of_the_rfc() -> None:
    async with grid(("#a", "#b"), ("#b",), ()) as nodes, ClientSession() as http:
        for number, each in enumerate(nodes):
            async with http.post(each.address + "/search", json={"query": ["#b"]}) as response:
                said = await response.json()
            assert sorted(name for name, _ in said["node-addresses"]) == ["n0", "n1"]
            assert said["content"] == ("#b" in each.tags)
            async with http.get(each.address + "/connected-nodes") as response:
                assert (await response.json())["grid-nodes"] == [f"n{other}" for other in range(3) if other != number]
        async with http.post(each.address + "/join", json={"node-id": "x", "node-address": "http://x:1"}) as response:
            assert (await response.json())["type"] == "urn:grid:problem:unsigned-join-refused"


async def test_a_record_is_published_through_any_peer_and_by_its_owner_alone() -> None:
    async with grid((), (), ()) as nodes:
        signed = record(identity(66), "#phone", at=time.time(), name="phone", address="http://10.1.1.1:1")
        joined = await nodes[0].calls.call(nodes[1].address, JOIN, Join("phone", "http://10.1.1.1:1", signed))
        assert joined.verified
        assert await nodes[2].search("#phone") == ["phone"]
        for bad in (Join("other", "http://10.1.1.1:1", signed), nodes[0].join()):
            with pytest.raises(GridError):
                await nodes[0].calls.call(nodes[1].address, JOIN, bad)


async def test_many_peers_are_quick_to_start_and_find_each_other() -> None:
    async with grid(*[("#all", f"#{number}") for number in range(12)]) as nodes:
        assert len(await nodes[7].search("#all")) == 12
        found = await asyncio.gather(*(nodes[number].search(f"#{11 - number}") for number in range(12)))
        assert [one[0] for one in found] == [f"n{11 - number}" for number in range(12)]
