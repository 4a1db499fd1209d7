from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from grid.client.calls import Calls
from grid.crypto.identity import Identity, public_from_id
from grid.crypto.signing import verify
from grid.gateway.app import Policy
from grid.protocol.documents import read_document
from grid.transport.hello import health_statement
from grid.wire.directory import (
    AVAILABLE_MODELS,
    AVAILABLE_TAGS,
    CONNECTED_NODES,
    DELETE_NODE,
    JOIN,
    MEMBER,
    MEMBERS,
    NODE_RECORD,
    RENEW,
    SEARCH,
    Connected,
    Found,
    Join,
    Leave,
    NodeRecord,
    Page,
    Renew,
    Search,
)
from grid.wire.problems import (
    AddressRefused,
    BadRequest,
    NodeIdTaken,
    NotAllowed,
    NotAMember,
    NotAuthenticated,
    StaleRecord,
    UnsignedJoinRefused,
)
from grid.wire.session import HEALTH, Nonce
from tests.gateway.conftest import GATEWAY, OWNERS_TOKEN, gateway_at, until
from tests.gateway.fakes import START, Key, rfc

ALICE, MALLORY = Key(1), Key(2)
CallsOf = Callable[[Identity], Calls]
StartNode = Callable[..., Awaitable[str]]


@pytest.fixture
def alice(calls_of: CallsOf) -> Calls:
    return calls_of(ALICE.identity)


@pytest.fixture
def mallory(calls_of: CallsOf) -> Calls:
    return calls_of(MALLORY.identity)


async def test_a_signed_member_is_found_and_anyone_can_check_what_it_signed(gateway: str, alice: Calls) -> None:
    joined = await alice.call(gateway, JOIN, ALICE.join("alice", "#scans", models=("resnet",)))
    member = await alice.call(gateway, MEMBER, node_id="alice")

    assert joined.verified
    assert await alice.call(gateway, SEARCH, Search(("#scans",))) == Found((("alice", "http://node.example"),))
    assert member.record
    said = read_document(member.record, NodeRecord, NODE_RECORD, now=START)
    assert (said.node_address, said.public_key, member.prekey) == (member.node_address, ALICE.id, b"prekey")
    assert await alice.call(gateway, AVAILABLE_TAGS) == ("#scans",)
    assert await alice.call(gateway, AVAILABLE_MODELS) == ("resnet",)


async def test_an_answer_of_verified_members_has_the_rfcs_shape_and_nothing_else(
    gateway: str, alice: Calls, http: aiohttp.ClientSession
) -> None:
    await alice.call(gateway, JOIN, ALICE.join("alice", "#scans"))

    async with http.post(f"{gateway}/search", json={"query": ["#scans"]}) as response:
        assert await response.json() == {"node-addresses": [["alice", "http://node.example"]]}


async def test_unsigned_members_are_marked(gateway: str, alice: Calls) -> None:
    await alice.call(gateway, JOIN, ALICE.join("alice"))
    await alice.call(gateway, JOIN, rfc("Bob"))

    assert await alice.call(gateway, CONNECTED_NODES) == Connected(("Bob", "alice"), ("Bob",))


async def test_a_lease_is_renewed_with_the_members_own_key_only(gateway: str, alice: Calls, mallory: Calls) -> None:
    await alice.call(gateway, JOIN, ALICE.join("alice"))

    assert (await alice.call(gateway, RENEW, Renew("alice", busy=True))).state == "busy"
    with pytest.raises(NotAMember):
        await mallory.call(gateway, RENEW, Renew("alice"))


async def test_a_signed_member_can_be_neither_displaced_replayed_nor_removed_by_others(
    gateway: str, alice: Calls, mallory: Calls, http: aiohttp.ClientSession
) -> None:
    join = ALICE.join("alice", "#scans")
    await alice.call(gateway, JOIN, join)

    for taker in (MALLORY.join("alice", version=START + 1), rfc("alice"), rfc("alice", "http://node.example")):
        with pytest.raises(NodeIdTaken):
            await mallory.call(gateway, JOIN, taker)
    with pytest.raises(StaleRecord):
        await mallory.call(gateway, JOIN, join)
    leave = Leave("alice", "http://node.example")
    with pytest.raises(NotAuthenticated):
        await mallory.call(gateway, DELETE_NODE, leave)
    with pytest.raises(NotAllowed):
        await mallory.call(gateway, DELETE_NODE, leave, sign=True)
    assert (await alice.call(gateway, SEARCH, Search(("#scans",)))).node_addresses[0][0] == "alice"


async def test_a_member_leaves_by_its_session_or_by_the_gateways_owner(
    gateway: str, alice: Calls, http: aiohttp.ClientSession
) -> None:
    leave = {"node-id": "alice", "node-address": "http://node.example"}
    owner = {"Authorization": f"Bearer {OWNERS_TOKEN}"}

    await alice.call(gateway, JOIN, ALICE.join("alice"))
    await alice.call(gateway, DELETE_NODE, Leave("alice", "http://node.example"), sign=True)
    await alice.call(gateway, JOIN, ALICE.join("alice", version=START + 1))
    async with http.delete(f"{gateway}/delete-node", json=leave, headers=owner) as response:
        assert response.status == 200
    assert (await alice.call(gateway, CONNECTED_NODES)).grid_nodes == ()


async def test_members_come_page_by_page(gateway: str, alice: Calls) -> None:
    for number in range(5):
        await alice.call(gateway, JOIN, ALICE.join(f"n{number}"))
    pages, after = [], ""
    while True:
        page = await alice.call(gateway, MEMBERS, query=Page(after, 2))
        pages.append([member.node_id for member in page.members])
        after = page.after
        if not after:
            break

    assert pages == [["n0", "n1"], ["n2", "n3"], ["n4"]]
    with pytest.raises(NotAMember):
        await alice.call(gateway, MEMBER, node_id="nobody")


async def test_members_survive_a_restart(tmp_path: Path, alice: Calls) -> None:
    async with gateway_at(tmp_path) as gateway:
        await alice.call(gateway, JOIN, ALICE.join("alice", "#scans"))
        await alice.call(gateway, JOIN, rfc("Bob"))

    async with gateway_at(tmp_path) as gateway:
        assert (await alice.call(gateway, CONNECTED_NODES)).grid_nodes == ("Bob", "alice")
        assert (await alice.call(gateway, SEARCH, Search(("#scans",)))).node_addresses[0][0] == "alice"
        with pytest.raises(NodeIdTaken):
            await alice.call(gateway, JOIN, MALLORY.join("alice", version=START + 1))
        assert (await alice.call(gateway, RENEW, Renew("alice"))).state == "online"


async def test_unsigned_joins_are_refused_by_policy(tmp_path: Path, alice: Calls) -> None:
    async with gateway_at(tmp_path, Policy(allow_private=True)) as gateway:
        with pytest.raises(UnsignedJoinRefused):
            await alice.call(gateway, JOIN, rfc("Bob"))
        assert (await alice.call(gateway, JOIN, ALICE.join("alice"))).verified


INSIDE = [
    "http://127.0.0.1:5000",
    "http://localhost:5000",
    "http://[::1]",
    "http://[::ffff:127.0.0.1]",
    "http://2130706433",
    "http://0x7f.1",
    "http://10.0.0.1",
    "http://192.168.1.1",
    "http://[fd00::1]",
]
NEVER = [
    "http://169.254.169.254/latest",
    "http://[::ffff:169.254.169.254]",
    "http://2852039166",
    "http://[fe80::1]",
    "http://0.0.0.0",
    "http://node.example:99999",
]
NONE = [  # no addresses at all
    "http://user:word@node.example",
    "http://node.example@169.254.169.254",
    "http://node.example/?to=inside",
    "http://node.example\\@169.254.169.254",
    "file:///etc/passwd",
]


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("signed", [True, False])
async def test_addresses_that_point_inside_are_refused(
    private: bool, signed: bool, tmp_path: Path, alice: Calls
) -> None:
    policy = Policy(allow_unsigned=True, allow_private=private)
    async with gateway_at(tmp_path, policy) as gateway:
        for address in [*NONE, *NEVER, *(() if private else INSIDE)]:
            join = ALICE.join("alice", address=address) if signed else Join("alice", address)
            with pytest.raises(BadRequest if address in NONE else AddressRefused):
                await alice.call(gateway, JOIN, join)
        assert (await alice.call(gateway, CONNECTED_NODES)).grid_nodes == ()


async def huge(_: web.Request) -> web.StreamResponse:
    return web.Response(text='{"content": true, "more": "' + "x" * 1_000_000 + '"}')


async def bomb(_: web.Request) -> web.StreamResponse:
    return web.Response(body=gzip.compress(b'{"content": true}'), headers={"Content-Encoding": "gzip"})


async def elsewhere(request: web.Request) -> web.StreamResponse:
    raise web.HTTPTemporaryRedirect(f"http://{request.host}/search?again")


async def stuck(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65536)


@pytest.mark.parametrize("live", [True, False])
async def test_dead_slow_and_lying_nodes_neither_delay_nor_break_an_answer(
    live: bool, gateway: str, alice: Calls, rfc_node: StartNode
) -> None:
    await alice.call(gateway, JOIN, rfc("Good", await rfc_node("#x")))
    await alice.call(gateway, JOIN, rfc("dead", "http://127.0.0.1:9"))
    for respond in (huge, bomb, elsewhere, stuck, endless):
        await alice.call(gateway, JOIN, rfc(respond.__name__, await rfc_node("#x", respond=respond)))

    async with asyncio.timeout(3):
        found = await alice.call(gateway, SEARCH, Search(("#x",), live=live))

    assert [node_id for node_id, _ in found.node_addresses] == ["Good"]
    assert found.silent == ("bomb", "dead", "elsewhere", "endless", "huge", "stuck")


async def test_the_gateways_own_checks_bring_an_rfc_node_online(
    gateway: str, alice: Calls, rfc_node: StartNode
) -> None:
    await alice.call(gateway, JOIN, rfc("Bob", await rfc_node("#x")))

    async def online() -> bool:
        return bool((await alice.call(gateway, MEMBER, node_id="Bob")).state == "online")

    await until(online)


async def test_the_gateway_signs_its_own_health(gateway: str, alice: Calls) -> None:
    health = await alice.call(gateway, HEALTH, query=Nonce("abc"))

    verify(public_from_id(GATEWAY.id), "health", health_statement("gateway", None, "abc"), health.signature)


async def test_figures_and_description_are_there(gateway: str, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{gateway}/metrics") as response:
        assert "grid_members_found 0.0" in await response.text()
    async with http.get(f"{gateway}/openapi.json") as response:
        described: dict[str, Any] = await response.json()

    assert {"/join", "/search", "/health-check", "/connected-nodes", "/v1/lease"} <= described["paths"].keys()


async def test_a_body_larger_than_a_join_is_refused(gateway: str, http: aiohttp.ClientSession) -> None:
    async with http.post(f"{gateway}/join", json={"node-id": "x" * 300_000}) as response:
        assert response.status == 413
