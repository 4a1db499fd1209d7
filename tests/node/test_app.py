"""A node's endpoints over HTTP: who may call what, and what bad input meets."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientSession
from yarl import URL

from grid.client.calls import Calls
from grid.crypto.identity import Identity
from grid.wire import node as wire
from grid.wire.problems import (
    DatasetExists,
    DatasetNotFound,
    DatasetRefused,
    NotAllowed,
    NotAuthenticated,
)
from grid.wire.session import HEALTH, IDENTITY
from tests.grid_of_nodes import ANode, Scientist, add_dataset

StartNode = Callable[..., Awaitable[ANode]]

STRANGER = Identity.from_seed(b"stranger".ljust(32))


@pytest.fixture
async def ann(start_node: StartNode) -> ANode:
    """A node with one dataset."""
    return await start_node("ann")


@pytest.fixture
async def owner(ann: ANode, connections: ClientSession) -> Calls:
    """The node's owner, by token."""
    return Calls(connections, token=await ann.open.means.access.renew_token())


async def test_anyone_may_ask_what_the_rfc_lets_them_ask(ann: ANode, connections: ClientSession) -> None:
    anyone = Calls(connections)

    assert (await anyone.call(ann.address, wire.HOLDS, wire.Query(("#pulse",)))).content is True
    assert (await anyone.call(ann.address, wire.HOLDS, wire.Query(("#pulse", "#mri")))).content is False
    assert await anyone.call(ann.address, wire.DATASET_TAGS) == ("#pulse",)
    assert (await anyone.call(ann.address, IDENTITY)).public_key == ann.identity.id
    assert (await anyone.call(ann.address, wire.STATUS)).node_id == "ann"
    assert await anyone.call(ann.address, HEALTH) is not None
    assert len((await anyone.call(ann.address, wire.PREKEY)).prekey) > 32


async def test_curl_with_the_rfcs_json_is_understood(ann: ANode, connections: ClientSession) -> None:
    async with connections.post(f"{ann.address}/search", json={"query": ["#pulse"]}) as response:
        assert (response.status, await response.json()) == (200, {"content": True})


async def test_descriptions_are_for_those_who_sign_and_the_data_for_the_owner(
    ann: ANode, owner: Calls, connections: ClientSession
) -> None:
    stranger = Calls(connections, identity=STRANGER)

    assert [info.name for info in (await stranger.call(ann.address, wire.DATASETS)).datasets] == ["pulse"]
    assert (await stranger.call(ann.address, wire.DATASET, name="pulse")).examples == 10
    with pytest.raises(NotAuthenticated):
        await Calls(connections).call(ann.address, wire.DATASETS)
    with pytest.raises(DatasetNotFound):
        await stranger.call(ann.address, wire.DATASET, name="mri")
    with pytest.raises(NotAllowed, match="stays here"):
        async with stranger.download(ann.address, wire.TENSOR, name="pulse", tensor="features"):
            pass
    with pytest.raises(DatasetNotFound):
        async with stranger.download(ann.address, wire.TENSOR, name="mri", tensor="features"):
            pass
    async with owner.download(ann.address, wire.TENSOR, name="pulse", tensor="features") as (size, blocks):
        assert (size, b"".join([block async for block in blocks])) == (120, bytes(120))


async def test_only_the_owner_changes_what_is_here_and_who_is_trusted(
    ann: ANode, owner: Calls, scientist: Scientist
) -> None:
    await add_dataset(ann.open, 4, "other", ("#other",))

    for endpoint, words in (
        (wire.REMOVE_DATASET, {"name": "other"}),
        (wire.TRUSTED, {}),
        (wire.DISTRUST, {"public_key": STRANGER.id}),
    ):
        with pytest.raises(NotAllowed):
            await scientist.calls.call(ann.address, endpoint, sign=True, **words)
    with pytest.raises(NotAllowed):
        await scientist.calls.call(ann.address, wire.TRUST, wire.Trust(STRANGER.id))

    await owner.call(ann.address, wire.TRUST, wire.Trust(STRANGER.id, "a stranger"))
    named = {each.public_key: each.name for each in (await owner.call(ann.address, wire.TRUSTED)).trusted}
    assert named[STRANGER.id] == "a stranger"
    await owner.call(ann.address, wire.DISTRUST, public_key=STRANGER.id)
    assert STRANGER.id not in {each.public_key for each in (await owner.call(ann.address, wire.TRUSTED)).trusted}
    await owner.call(ann.address, wire.REMOVE_DATASET, name="other")
    with pytest.raises(DatasetNotFound):
        await owner.call(ann.address, wire.REMOVE_DATASET, name="other")


async def test_a_dataset_whose_file_is_not_here_is_refused(ann: ANode, owner: Calls) -> None:
    info = wire.DatasetInfo("ghost", "", ("#ghost",), 1)
    pulse = ann.open.means.catalogue.get("pulse")

    with pytest.raises(DatasetRefused):
        await owner.call(ann.address, wire.ADD_DATASET, wire.NewDataset(info, "0" * 64))
    with pytest.raises(DatasetExists):
        await owner.call(ann.address, wire.ADD_DATASET, wire.NewDataset(pulse, "0" * 64))

    assert await owner.call(ann.address, wire.DATASET_TAGS) == ("#pulse",)


async def test_a_token_that_is_not_the_owners_opens_nothing(
    ann: ANode, owner: Calls, connections: ClientSession
) -> None:
    for token in ("", "admin", "x" * 43):
        with pytest.raises(NotAuthenticated):
            await Calls(connections, token=token).call(ann.address, wire.TRUSTED)


BAD = [
    (b"{", "application/json", 400, "bad-request"),
    (b"[]", "application/json", 400, "bad-request"),
    (b'{"query": "#pulse"}', "application/json", 400, "bad-request"),
    (b'{"query": ["#pulse"], "sql": "1"}', "application/json", 400, "bad-request"),
    (b'{"query": [" "]}', "application/json", 400, "bad-request"),
    (b'{"query": ["#pulse"]}', "text/plain", 415, "unsupported-media-type"),
    (b'{"query": ["' + b"x" * 900_000 + b'"]}', "application/json", 413, "too-large"),
    (b"[" * 30_000, "application/json", 400, "bad-request"),
]


@pytest.mark.parametrize(("body", "media", "status", "slug"), BAD, ids=lambda value: str(value)[:20])
async def test_bad_input_meets_a_problem(
    ann: ANode, connections: ClientSession, body: bytes, media: str, status: int, slug: str
) -> None:
    headers = {"Content-Type": media, "Origin": "http://a-page.example"}
    async with connections.post(f"{ann.address}/search", data=body, headers=headers) as response:
        problem: dict[str, Any] = json.loads(await response.read())

    assert (response.status, problem["type"]) == (status, f"urn:grid:problem:{slug}")
    assert response.headers["Content-Type"].startswith("application/problem+json")


async def test_every_endpoint_of_the_node_is_described(ann: ANode, connections: ClientSession) -> None:
    async with connections.get(f"{ann.address}/openapi.json") as response:
        described = await response.json()

    for path in ("/search", "/v1/invites", "/v1/runs", "/v1/runs/{run}/rounds/{round}/update", "/v1/datasets/{name}"):
        assert path in described["paths"]


async def test_figures_for_operators_name_no_data(ann: ANode, connections: ClientSession) -> None:
    async with connections.get(f"{ann.address}/metrics") as response:
        page = await response.text()

    assert "grid_datasets 1.0" in page
    assert "grid_runs_joined 0.0" in page
    assert "pulse" not in page


@pytest.mark.parametrize("path", ["/v1/datasets/..%2f..", "/v1/runs/x/rounds/-1/model", "/v1/runs/x/rounds/1e9/update"])
async def test_paths_that_are_none_are_refused(ann: ANode, connections: ClientSession, path: str) -> None:
    async with connections.post(URL(ann.address + path, encoded=True)) as response:
        assert 400 <= response.status < 500
