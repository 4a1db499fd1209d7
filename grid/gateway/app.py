"""The gateway's routes: each handler parses, calls, responds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from msgspec.structs import replace

from grid.accounts.app import account_routes
from grid.accounts.pygrid import pygrid_people
from grid.associations.app import association_routes, network_routes
from grid.associations.service import Associations
from grid.client.egress import Egress
from grid.crypto.identity import Identity
from grid.gateway.ask import HttpAsk
from grid.gateway.checks import INTERVAL, Checks
from grid.gateway.dialects.friendlyfl import friendlyfl_routes
from grid.gateway.log import Log
from grid.gateway.record import Record
from grid.gateway.register import LEASE, MemberStore, Register
from grid.gateway.roll import Listed
from grid.gateway.search import Searches
from grid.gateway.transparency import log_routes
from grid.relay.app import relay_routes
from grid.relay.mailboxes import Mailboxes
from grid.transport.app import CALLER, Routes, create_app
from grid.transport.auth import Authenticator
from grid.transport.body import part, query, read, reply
from grid.transport.hello import health_handler, identity_handler, session_handler
from grid.transport.metrics import Metrics
from grid.wire import directory as wire
from grid.wire.names import NodeId
from grid.wire.problems import NotAMember
from grid.wire.session import HEALTH, IDENTITY, SESSION

LOG = web.AppKey("log", Log)
REGISTER = web.AppKey("register", Register)
SEARCHES = web.AppKey("searches", Searches)


@dataclass(frozen=True)
class Policy:
    """What a gateway's operator decides. Times are in seconds.

    `allow_unsigned`: the RFC's two fields suffice to be listed. `allow_private`: members may live at private
    and loopback addresses; link-local and metadata addresses are refused in any case.
    """

    allow_unsigned: bool = False
    allow_private: bool = False
    lease: float = LEASE
    check_interval: float = INTERVAL


@asynccontextmanager
async def open_gateway(
    identity: Identity,
    store: MemberStore,
    policy: Policy,
    *,
    auth: Authenticator,
    now: Callable[[], float],
    version: str,
    log: Log,
    mailboxes: Mailboxes | None = None,
    record: Record | None = None,
    associations: Associations | None = None,
) -> AsyncIterator[web.Application]:
    """A gateway whose loops run for as long as the block lasts; its application is to be served meanwhile.

    Without `mailboxes` it relays no letters; without a `record` it keeps none, and speaks no FriendlyFL; without
    `associations` it has none.
    """
    egress, metrics = Egress(policy.allow_private), Metrics()
    await log.load()
    register = Register(
        store,
        egress.check,
        now,
        allow_unsigned=policy.allow_unsigned,
        lease=policy.lease,
        refuse=log.refuse_revoked,
        succeeds=log.succeeds,
    )
    await register.load()
    # One question, one connection: idle ones to thousands of members would use up the descriptors.
    async with HttpAsk(egress.connector(limit=256, force_close=True)) as ask:
        checks = Checks(register, ask, now, interval=policy.check_interval)
        routes = {**_routes(identity, auth, now, version), **log_routes(log, register)}
        if mailboxes is not None:
            await mailboxes.load()
            routes = {**routes, **relay_routes(mailboxes)}
            metrics.gauge("grid_relay_bytes", "Bytes of letters that wait", lambda: mailboxes.waiting)
        if record is not None:
            await record.deposits.sweep()
            routes = {
                **routes,
                **account_routes(record.house),
                **pygrid_people(record.house),
                **friendlyfl_routes(record),
            }
        if associations is not None:
            routes = {**routes, **association_routes(associations), **network_routes(associations)}
        app = create_app(routes, auth=auth, metrics=metrics, about="Grid gateway")
        app[REGISTER], app[SEARCHES], app[LOG] = register, Searches(register.roll, ask, now), log
        metrics.gauge("grid_members", "Members in any state", lambda: len(register.roll))
        metrics.gauge("grid_members_found", "Members that a search may name", register.roll.found)
        async with asyncio.TaskGroup() as loops:
            running = [loops.create_task(register.tend()), loops.create_task(checks.run())]
            if mailboxes is not None:
                running.append(loops.create_task(mailboxes.tend()))
            if record is not None:
                running.append(loops.create_task(record.sites.tend()))
            try:
                yield app
            finally:
                for loop in running:
                    loop.cancel()
        await register.flush()


def _routes(identity: Identity, auth: Authenticator, now: Callable[[], float], version: str) -> Routes:
    return {
        wire.JOIN: join,
        wire.SEARCH: search,
        wire.CONNECTED_NODES: connected_nodes,
        wire.DELETE_NODE: delete_node,
        wire.AVAILABLE_TAGS: available_tags,
        wire.AVAILABLE_MODELS: available_models,
        wire.RENEW: renew,
        wire.MEMBERS: members,
        wire.MEMBER: member,
        IDENTITY: identity_handler(identity, "gateway", version),
        HEALTH: health_handler(identity, "gateway", now=now),
        SESSION: session_handler(auth),
    }


# --- the grid RFC, and what its gateways grew ---------------------------------------------------


async def join(request: web.Request) -> web.StreamResponse:
    """Be listed."""
    message = await read(request, wire.JOIN)
    return reply(wire.JOIN, await request.app[REGISTER].join(message), request=request)


async def search(request: web.Request) -> web.StreamResponse:
    """Find nodes by tags."""
    found = await request.app[SEARCHES].search(await read(request, wire.SEARCH))
    return reply(wire.SEARCH, found, request=request)


async def connected_nodes(request: web.Request) -> web.StreamResponse:
    """The ids of all members that a search may name."""
    listed = [listed for listed in request.app[REGISTER].roll if listed.found]
    connected = wire.Connected(_ids(listed), _ids([one for one in listed if not one.member.verified]))
    return reply(wire.CONNECTED_NODES, connected, request=request)


async def delete_node(request: web.Request) -> web.StreamResponse:
    """Leave."""
    caller = request[CALLER]
    leave = await read(request, wire.DELETE_NODE)
    done = await request.app[REGISTER].leave(leave, caller.id, owner=caller.owner)
    return reply(wire.DELETE_NODE, done, request=request)


async def available_tags(request: web.Request) -> web.StreamResponse:
    """All tags."""
    return reply(wire.AVAILABLE_TAGS, tuple(request.app[REGISTER].roll.tags.words()), request=request)


async def available_models(request: web.Request) -> web.StreamResponse:
    """All models."""
    return reply(wire.AVAILABLE_MODELS, tuple(request.app[REGISTER].roll.models.words()), request=request)


# --- our own --------------------------------------------------------------------------------------


async def renew(request: web.Request) -> web.StreamResponse:
    """Renew a lease."""
    renewed = request.app[REGISTER].renew(await read(request, wire.RENEW), request[CALLER].id)
    return reply(wire.RENEW, renewed, request=request)


async def member(request: web.Request) -> web.StreamResponse:
    """One member."""
    node_id: str = part(request, "node_id", NodeId)
    listed = request.app[REGISTER].roll.get(node_id)
    if not listed:
        raise NotAMember(f"{node_id} is not listed")
    signer, log = listed.claim.signer, request.app[LOG]
    if signer is None:
        return reply(wire.MEMBER, _told(listed), request=request)
    await log.listed(node_id, signer)  # it is, unless an earlier version of the gateway listed it
    told = replace(_told(listed), logged=log.logged(node_id), rotations=log.rotations(signer))
    return reply(wire.MEMBER, told, request=request)


async def members(request: web.Request) -> web.StreamResponse:
    """A page of members."""
    page: wire.Page = query(request, wire.MEMBERS)
    listed = request.app[REGISTER].roll.page(page.after, page.limit + 1)  # one more: is there a next page?
    shown = listed[: page.limit]
    answer = wire.Members(tuple(map(_told, shown)), shown[-1].claim.node_id if len(listed) > len(shown) else "")
    return reply(wire.MEMBERS, answer, request=request)


def _ids(listed: Sequence[Listed]) -> tuple[str, ...]:
    return tuple(one.claim.node_id for one in listed)


def _told(listed: Listed) -> wire.Member:
    """A member as others see it."""
    claim, member = listed.claim, listed.member
    return wire.Member(
        node_id=claim.node_id,
        node_address=claim.node_address,
        state=member.state.value,
        verified=member.verified,
        lease_ends=member.lease_ends,
        tags=claim.tags,
        record=claim.record,
        prekey=claim.prekey,
    )
