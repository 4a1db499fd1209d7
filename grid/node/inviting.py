"""Asks nodes to take part in a run, many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from grid.client.calls import Calls
from grid.crypto.identity import public_from_id
from grid.wire.problems import GridError
from grid.wire.runs import INVITE, Invite, Invited, Peer

AT_ONCE = 64

Heard = Callable[[Peer, Invited | GridError], Awaitable[None]]


async def invite_all(calls: Calls, invite: Invite, peers: Iterable[Peer], heard: Heard) -> None:
    """Invite every peer; `heard` gets each one's answer, or why there is none, as it comes."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(peer: Peer) -> None:
        answer: Invited | GridError
        try:
            async with gate:
                answer = await calls.call(peer.node_address, INVITE, invite, peer=public_from_id(peer.public_key))
        except GridError as error:
            answer = error
        await heard(peer, answer)

    async with asyncio.TaskGroup() as group:
        for peer in peers:
            group.create_task(ask(peer))
