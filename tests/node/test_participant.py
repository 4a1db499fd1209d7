"""Which invitations a node takes, over HTTP."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientSession
from msgspec.structs import replace

from grid.client.calls import Calls
from grid.crypto.identity import Identity
from grid.crypto.prekeys import Prekey, publish
from grid.protocol.documents import sign_document
from grid.wire.problems import (
    AddressRefused,
    BadSignature,
    GridError,
    InviteRefused,
    NotAllowed,
    NotAuthenticated,
    Replayed,
)
from grid.wire.runs import INVITE, TASK, Invite, Invited, Task
from tests.grid_of_nodes import SCIENTIST, TAGS, ANode, plan_of

StartNode = Callable[..., Awaitable[ANode]]

INVITER = Identity.from_seed(b"inviter".ljust(32))
STRANGER = Identity.from_seed(b"stranger".ljust(32))
NOWHERE = "http://127.0.0.1:9"  # nobody answers there: what was taken ends by itself


def a_task(**changes: Any) -> Task:
    now = time.time()
    usual = {"run": "0123456789abcdef0123", "plan": plan_of().digest, "coordinator": INVITER.id, "tags": TAGS}
    return Task(**({**usual, "created": now, "expires": now + 60} | changes))


def an_invite(task: Task | None = None, signer: Identity = SCIENTIST, **changes: Any) -> Invite:
    now = time.time()
    prekey = publish(INVITER, Prekey.generate(), now, now + 60)
    invite = Invite(sign_document(signer, TASK, task or a_task()), NOWHERE, prekey)
    return replace(invite, **changes)


@pytest.fixture
def invite_to(connections: ClientSession) -> Callable[..., Awaitable[Invited]]:
    """What sends an invitation as `INVITER`, or whoever `caller` is."""

    async def send(node: ANode, invite: Invite, caller: Identity = INVITER) -> Invited:
        return await Calls(connections, identity=caller).call(node.address, INVITE, invite)

    return send


InviteTo = Callable[..., Awaitable[Invited]]


async def test_an_invitation_for_data_that_is_here_is_taken_once(start_node: StartNode, invite_to: InviteTo) -> None:
    node = await start_node("ann")

    first, second = await invite_to(node, an_invite()), await invite_to(node, an_invite())

    assert first == second == Invited("ann", "pulse", 10)
    assert sum(node.open.parts.participant.running().values()) <= 1


@pytest.mark.parametrize(
    ("task", "error", "why"),
    [
        ({"coordinator": STRANGER.id}, InviteRefused, "another coordinator"),
        ({"expires": 5.0}, Replayed, "expired"),
        ({"tags": ("#pulse", "#mri")}, InviteRefused, "no dataset here has the tags #pulse #mri"),
        ({"inputs": ("pixels",)}, InviteRefused, "no tensor pixels"),
        ({"target": "label"}, InviteRefused, "no tensor label"),
    ],
)
async def test_a_task_that_does_not_fit_is_refused_with_the_reason(
    start_node: StartNode, invite_to: InviteTo, task: dict[str, Any], error: type[GridError], why: str
) -> None:
    node = await start_node("ann")

    with pytest.raises(error, match=why):
        await invite_to(node, an_invite(a_task(**task)))

    assert node.open.parts.participant.running() == {}


async def test_a_scientist_whom_the_owner_does_not_trust_hears_what_to_ask_for(
    start_node: StartNode, invite_to: InviteTo
) -> None:
    node = await start_node("ann")

    with pytest.raises(NotAllowed, match=f"grid-node peer trust {STRANGER.id}"):
        await invite_to(node, an_invite(signer=STRANGER))

    assert node.open.parts.participant.running() == {}


async def test_a_task_that_was_changed_on_its_way_is_refused(start_node: StartNode, invite_to: InviteTo) -> None:
    node, invite = await start_node("ann"), an_invite()
    more = invite.task.payload.replace(b"#pulse", b"#other")

    with pytest.raises(BadSignature):
        await invite_to(node, replace(invite, task=replace(invite.task, payload=more)))
    with pytest.raises(BadSignature):
        await invite_to(node, replace(invite, task=replace(invite.task, signer=STRANGER.id)))
    elsewhere = sign_document(SCIENTIST, "node-record", a_task())
    with pytest.raises(BadSignature):
        await invite_to(node, replace(invite, task=elsewhere))


async def test_an_invitation_is_signed_by_the_coordinator_that_sends_it(
    start_node: StartNode, invite_to: InviteTo, connections: ClientSession
) -> None:
    node, now = await start_node("ann"), time.time()
    anothers = publish(STRANGER, Prekey.generate(), now, now + 60)

    with pytest.raises(InviteRefused, match="another coordinator"):
        await invite_to(node, an_invite(), caller=STRANGER)
    with pytest.raises(NotAuthenticated):
        await Calls(connections).call(node.address, INVITE, an_invite())
    with pytest.raises(BadSignature):
        await invite_to(node, an_invite(prekey=anothers))
    with pytest.raises(BadSignature):
        await invite_to(node, an_invite(prekey=b"?"))

    assert node.open.parts.participant.running() == {}


async def test_a_coordinator_cannot_send_a_node_where_policy_forbids(
    start_node: StartNode, invite_to: InviteTo
) -> None:
    node, strict = await start_node("ann"), await start_node("bob", allow_private=False)

    with pytest.raises(AddressRefused, match="metadata"):
        await invite_to(node, an_invite(coordinator_address="http://169.254.169.254/latest"))
    with pytest.raises(AddressRefused, match="--allow-private"):
        await invite_to(strict, an_invite(coordinator_address="http://127.0.0.1:5000"))

    assert node.open.parts.participant.running() == strict.open.parts.participant.running() == {}


async def test_a_node_takes_part_in_so_many_runs_and_no_more(start_node: StartNode, invite_to: InviteTo) -> None:
    node = await start_node("ann")
    node.open.parts.participant._most = 0

    with pytest.raises(InviteRefused) as refused:
        await invite_to(node, an_invite())

    assert refused.value.retry_after == 60.0
