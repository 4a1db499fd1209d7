"""Invitations to many nodes at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import ClientSession

from grid.client.calls import Calls
from grid.crypto.identity import Identity
from grid.node.inviting import invite_all
from grid.wire.documents import Signed
from grid.wire.problems import BadSignature, GridError, InviteRefused, Unreachable
from grid.wire.runs import Invite, Invited, Peer
from tests.grid_of_nodes import Puppet

StartPuppet = Callable[..., Awaitable[Puppet]]

ME = Identity.from_seed(b"m" * 32)
INVITE = Invite(Signed(b"task", ME.id, bytes(64)), "http://me.example", b"prekey")


async def test_each_answer_is_heard_as_it_comes_and_one_silent_node_holds_no_other(
    connections: ClientSession, start_puppet: StartPuppet
) -> None:
    ann, bob = await start_puppet("ann", examples=7), await start_puppet("bob")
    bob.refuses = InviteRefused("no time")
    liar = Peer("liar", ann.address, ME.id)
    nowhere = Peer("nowhere", "http://127.0.0.1:9", ME.id)
    told: dict[str, Invited | GridError] = {}

    async def heard(peer: Peer, answer: Invited | GridError) -> None:
        told[peer.node_id] = answer

    async with asyncio.timeout(5):
        await invite_all(Calls(connections, identity=ME), INVITE, [ann.peer, bob.peer, liar, nowhere], heard)

    assert told["ann"] == Invited("ann", "pulse", 7)
    assert [type(told[name]) for name in ("bob", "liar", "nowhere")] == [InviteRefused, BadSignature, Unreachable]
