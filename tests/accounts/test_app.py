"""People over HTTP, at a real node and a real gateway: every right against every endpoint, and signing in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from grid.client.calls import Calls
from grid.client.payload import once
from grid.crypto.identity import Identity
from grid.node.app import routes
from grid.protocol.documents import sign_document
from grid.protocol.roles import NETWORK_ROLES, NODE_ROLES
from grid.transport.auth import OWNER
from grid.wire import accounts as wire
from grid.wire import node as data
from grid.wire.endpoint import Endpoint
from grid.wire.problems import NotAllowed, NotAuthenticated, NotFound
from grid.wire.rights import Right
from tests.accounts.conftest import PASSWORD
from tests.gateway.conftest import OWNERS_TOKEN, gateway_at
from tests.gateway.fakes import Clock
from tests.grid_of_nodes import ANode

StartNode = Callable[..., Awaitable[ANode]]

SUE, EVE = (Identity.from_seed(seed * 32) for seed in (b"s", b"e"))


@pytest.fixture
async def ann(start_node: StartNode) -> ANode:
    """A node with an owner, and an account for each right that has this right alone."""
    node = await start_node("ann")
    house = node.open.means.house
    await house.people.create(OWNER, "olga", PASSWORD)
    for right in Right:
        await house.roles.put(OWNER, f"only {right}", [right])
        await house.people.create(OWNER, right, role=f"only {right}", keys=(key_of(right).id,))
    return node


def key_of(right: Right) -> Identity:
    """That of the account which has one right."""
    return Identity.from_seed(right.encode().ljust(32, b"."))


async def status_of(calls: Calls, address: str, endpoint: Endpoint[Any, Any]) -> int:
    """What comes of a call whose path and body are nonsense: 403 before anybody looks at these, or else another."""
    path = dict.fromkeys(endpoint.parameters, "n" * 43)
    try:
        if endpoint.streams_in:
            await calls.upload(address, endpoint, once(b""), **path)
        else:
            await calls.call(address, Endpoint(endpoint.method, endpoint.path), sign=True, **path)
    except NotAllowed as error:
        return 403 if error.detail.startswith("only ") else 200
    except Exception:  # noqa: BLE001 - refused for another reason
        return 400
    return 200


async def test_every_right_opens_exactly_the_endpoints_that_ask_for_it(
    ann: ANode, connections: aiohttp.ClientSession
) -> None:
    guarded = [endpoint for endpoint in routes(ann.open.parts) if endpoint.right is not None]
    assert {endpoint.right for endpoint in guarded} >= {
        Right.CREATE_USERS,
        Right.CREATE_GROUPS,
        Right.EDIT_ROLES,
        Right.EDIT_SETTINGS,
        Right.MANAGE_BUDGETS,
        Right.TRIAGE_REQUESTS,
        Right.UPLOAD_DATA,
    }
    for right in Right:
        calls = Calls(connections, identity=key_of(right))
        opened = {e for e in guarded if await status_of(calls, ann.address, e) != 403}
        assert opened == {e for e in guarded if e.right is right}, right
    stranger = Calls(connections, identity=EVE)
    assert [e for e in guarded if await status_of(stranger, ann.address, e) != 403] == []


@pytest.mark.parametrize("role", NODE_ROLES, ids=lambda role: role.name)
async def test_preset_roles_open_what_they_say(role: Any, ann: ANode, connections: aiohttp.ClientSession) -> None:
    await ann.open.means.house.people.create(OWNER, "paul", role=role.name, keys=(SUE.id,))
    calls = Calls(connections, identity=SUE)

    for endpoint in (each for each in routes(ann.open.parts) if each.right is not None):
        allowed = role.owns or endpoint.right in role.rights
        assert (await status_of(calls, ann.address, endpoint) != 403) == allowed, endpoint.path


async def test_a_key_that_says_so_stands_for_the_account_from_the_login_on(
    ann: ANode, connections: aiohttp.ClientSession
) -> None:
    house, calls = ann.open.means.house, Calls(connections, identity=SUE)
    await house.people.create(OWNER, "sue", PASSWORD, role="Administrator")
    with pytest.raises(NotFound):
        await calls.call(ann.address, wire.ME, sign=True)
    with pytest.raises(NotAllowed):
        await calls.call(ann.address, data.TRUSTED, sign=True)

    said = wire.KeyOf("sue", ann.identity.id, ann.open.means.now() + 60)
    tokens = await calls.call(
        ann.address, wire.LOGIN, wire.Login("sue", PASSWORD, sign_document(SUE, wire.ACCOUNT_KEY, said))
    )

    assert (await calls.call(ann.address, wire.ME, sign=True)).keys == (SUE.id,)
    assert (await calls.call(ann.address, data.TRUSTED, sign=True)).trusted
    bearer = Calls(connections, token=tokens.token)
    assert (await bearer.call(ann.address, wire.ME)).name == "sue"
    assert len((await bearer.call(ann.address, wire.SESSIONS)).sessions) == 1
    await bearer.call(ann.address, wire.LOGOUT)
    with pytest.raises(NotAuthenticated):
        await bearer.call(ann.address, wire.ME)
    assert (await calls.call(ann.address, wire.ME, sign=True)).name == "sue"  # the key does not need the session
    await house.people.remove(OWNER, "sue")
    with pytest.raises(NotAllowed):
        await calls.call(ann.address, data.TRUSTED, sign=True)


async def test_a_password_is_changed_by_who_knows_it_and_ends_the_other_sessions(
    ann: ANode, connections: aiohttp.ClientSession
) -> None:
    anyone = Calls(connections)
    one, two = [await anyone.call(ann.address, wire.LOGIN, wire.Login("olga", PASSWORD)) for _ in range(2)]
    olga, elsewhere = Calls(connections, token=one.token), Calls(connections, token=two.token)
    new = "quite another one"

    with pytest.raises(NotAuthenticated):
        await olga.call(ann.address, wire.CHANGE_ACCOUNT, wire.AccountChange(password=new), name="olga")
    change = wire.AccountChange(password=new, present=PASSWORD)
    await olga.call(ann.address, wire.CHANGE_ACCOUNT, change, name="olga")

    with pytest.raises(NotAuthenticated):
        await elsewhere.call(ann.address, wire.ME)
    assert (await olga.call(ann.address, wire.ME)).name == "olga"
    with pytest.raises(NotAuthenticated):
        await anyone.call(ann.address, wire.LOGIN, wire.Login("olga", PASSWORD))
    again = await anyone.call(ann.address, wire.LOGIN, wire.Login("olga", new))
    assert (await anyone.call(ann.address, wire.REFRESH, wire.Refresh(again.refresh))).account == "olga"


async def test_others_accounts_and_groups_are_not_there_for_who_may_not_see_them(
    ann: ANode, connections: aiohttp.ClientSession
) -> None:
    await ann.open.means.house.groups.put("cardiology")
    calls = Calls(connections, identity=key_of(Right.MAKE_REQUESTS))

    (mine,) = (await calls.call(ann.address, wire.ACCOUNTS, sign=True)).accounts
    assert mine.name == "make-requests"
    assert (await calls.call(ann.address, wire.GROUPS, sign=True)).groups == ()
    for name in ("olga", "nobody"):
        with pytest.raises(NotFound, match=f"there is no account {name} that you may see"):
            await calls.call(ann.address, wire.ACCOUNT, sign=True, name=name)
        with pytest.raises(NotFound, match=f"there is no account {name} that you may see"):
            await calls.call(ann.address, wire.CHANGE_ACCOUNT, wire.AccountChange(email="x"), sign=True, name=name)


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[str]:
    """The address of a gateway."""
    async with gateway_at(tmp_path, clock=Clock()) as address:
        yield address


async def test_a_gateway_has_the_network_roles_and_signs_people_in_alike(
    network: str, connections: aiohttp.ClientSession
) -> None:
    owner, anyone = Calls(connections, token=OWNERS_TOKEN), Calls(connections)
    for name in ("olga", "adam"):
        await owner.call(network, wire.ADD_ACCOUNT, wire.NewAccount(name, password=PASSWORD))

    told = {each.name: each.role for each in (await owner.call(network, wire.ACCOUNTS)).accounts}
    assert told == {"olga": "Network Owner", "adam": "Network Administrator"}
    assert [role.name for role in (await owner.call(network, wire.ROLES)).roles] == [r.name for r in NETWORK_ROLES]
    adam = Calls(connections, token=(await anyone.call(network, wire.LOGIN, wire.Login("adam", PASSWORD))).token)
    with pytest.raises(NotAllowed):
        await adam.call(network, wire.ADD_ACCOUNT, wire.NewAccount("eve"))
    olga = Calls(connections, token=(await anyone.call(network, wire.LOGIN, wire.Login("olga", PASSWORD))).token)
    await olga.call(network, wire.ADD_ACCOUNT, wire.NewAccount("eve"))
    with pytest.raises(NotAuthenticated):
        await anyone.call(network, wire.ACCOUNTS)
