"""The grid RFC's HTTP, verbatim, against whatever directory answers at the base URL.

The table is what a client of the RFC sends and gets; a directory of another kind passes it by being
another `base_url`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.dht.peers import Peers
from tests.gateway.conftest import gateway_at

StartNode = Callable[..., Awaitable[str]]

JSON = {"Content-Type": "application/json"}


@pytest.fixture(params=["gateway", "node"])
async def base_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """A directory that takes unsigned joins of nodes on this machine: a gateway, a node of a network without one."""
    if request.param == "gateway":
        async with gateway_at(tmp_path) as address:
            yield address
        return
    peers = Peers(tmp_path)
    try:
        yield (await peers.start("me", data=False, allow_unsigned=True)).address
    finally:
        await peers.end()


@dataclass(frozen=True)
class Step:
    """One exchange: what is sent, as bytes on the wire would be, and what must come back."""

    sends: str
    body: str = ""
    status: int = 200
    gives: Any = None


BOB = '{"node-id": "Bob", "node-address": "http://127.0.0.1:9"}'
BOB_ELSEWHERE = '{"node-id": "Bob", "node-address": "http://127.0.0.1:10"}'

STORIES = {
    "bob joins": [
        Step("POST /join", BOB, 200, {"message": "Successfully Connected!"}),
        Step("GET /connected-nodes", gives={"grid-nodes": ["Bob"]}),
    ],
    "an id is registered once": [
        Step("POST /join", BOB),
        Step("POST /join", BOB_ELSEWHERE, 409, {"detail": "This ID has already been registered."}),
        Step("GET /connected-nodes", gives={"grid-nodes": ["Bob"]}),
    ],
    "bob leaves": [
        Step("POST /join", BOB),
        Step("DELETE /delete-node", BOB_ELSEWHERE, 404),
        Step("DELETE /delete-node", BOB, 200),
        Step("GET /connected-nodes", gives={"grid-nodes": []}),
        Step("POST /join", BOB_ELSEWHERE, 200),
    ],
    "paths may end in a slash": [
        Step("POST /join/", BOB, 200),
        Step("GET /connected-nodes/", gives={"grid-nodes": ["Bob"]}),
    ],
    "nobody is there": [
        Step("GET /connected-nodes", gives={"grid-nodes": []}),
        Step("POST /search", '{"query": ["#MNIST", "#boston-housing"]}', 200, {"node-addresses": []}),
        Step("GET /search-available-tags", gives=[]),
        Step("GET /search-available-models", gives=[]),
    ],
    "alive": [Step("GET /health-check", gives={"status": "online"})],
}

NOT_A_JOIN = {
    "cut off": '{"node-id": "Bob", "node-addr',
    "empty": "",
    "not an object": '["Bob", "http://127.0.0.1:9"]',
    "a field is missing": '{"node-id": "Bob"}',
    "a wrong type": '{"node-id": 5, "node-address": "http://127.0.0.1:9"}',
    "an unknown field": BOB[:-1] + ', "admin": true}',
    "an empty id": '{"node-id": "", "node-address": "http://127.0.0.1:9"}',
    "an id with markup": '{"node-id": "<b>Bob</b>", "node-address": "http://127.0.0.1:9"}',
    "no address": '{"node-id": "Bob", "node-address": "ftp://127.0.0.1"}',
    "no text": '{"node-id": "\udcff"}',
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES.keys())
async def test_the_rfcs_exchanges_hold(story: list[Step], base_url: str, http: aiohttp.ClientSession) -> None:
    for step in story:
        status, given = await exchange(http, base_url, step)
        assert status == step.status, step
        if isinstance(step.gives, dict):
            assert {key: given.get(key) for key in step.gives} == step.gives
        elif step.gives is not None:
            assert given == step.gives


@pytest.mark.parametrize("body", NOT_A_JOIN.values(), ids=NOT_A_JOIN.keys())
async def test_what_is_no_join_is_answered_400_and_changes_nothing(
    body: str, base_url: str, http: aiohttp.ClientSession
) -> None:
    status, problem = await exchange(http, base_url, Step("POST /join", body))

    assert status == 400
    assert problem["type"] == "urn:grid:problem:bad-request"
    assert (await exchange(http, base_url, Step("GET /connected-nodes")))[1] == {"grid-nodes": []}


@pytest.mark.parametrize("body", ['{"query": "#MNIST"}', '{"query": [5]}', '{"query": [""]}', "{}", "null"])
async def test_what_is_no_search_is_answered_400(body: str, base_url: str, http: aiohttp.ClientSession) -> None:
    assert (await exchange(http, base_url, Step("POST /search", body)))[0] == 400


async def test_a_search_names_the_nodes_that_say_they_have_it(
    base_url: str, http: aiohttp.ClientSession, rfc_node: StartNode
) -> None:
    bob, alice = await rfc_node("#MNIST", "#boston-housing"), await rfc_node("#boston-housing", "#MNIST", "#x")
    carol = await rfc_node("#MNIST")
    for node_id, address in [("Bob", bob), ("Alice", alice), ("Carol", carol)]:
        await exchange(http, base_url, Step("POST /join", json.dumps({"node-id": node_id, "node-address": address})))

    search = Step("POST /search", '{"query": ["#MNIST", "#boston-housing"]}')
    status, found = await exchange(http, base_url, search)

    assert status == 200
    assert found["node-addresses"] == [["Alice", alice], ["Bob", bob]]


async def exchange(http: aiohttp.ClientSession, base_url: str, step: Step) -> tuple[int, Any]:
    """Status and document."""
    method, path = step.sends.split()
    body = step.body.encode("utf-8", "surrogateescape") or None
    async with http.request(method, base_url + path, data=body, headers=JSON) as response:
        return response.status, await response.json(content_type=None)
