"""A node's endpoints: each handler parses, calls, responds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from grid.accounts.app import account_routes
from grid.accounts.house import House
from grid.accounts.pygrid import pygrid_people
from grid.associations.app import association_routes
from grid.associations.service import Associations
from grid.crypto.identity import Identity
from grid.node.access import Access
from grid.node.audit import Audit
from grid.node.budget_app import budget_routes
from grid.node.catalogue import Catalogue
from grid.node.coordinator import Coordinator, key_of
from grid.node.data_app import data_routes
from grid.node.dialects.data_centric import DataCentricParts, data_centric_routes
from grid.node.dialects.data_centric_house import house_routes
from grid.node.dialects.flaas import flaas_routes
from grid.node.dialects.flaas_rows import FlaasParts
from grid.node.dialects.flea import flea_routes
from grid.node.dialects.flea_rows import FleaParts
from grid.node.dialects.model_centric import pygrid_routes
from grid.node.dialects.model_centric_rows import PyGridParts
from grid.node.gates import Gates
from grid.node.hosting import Hosts
from grid.node.keys import Prekeys
from grid.node.ledger import Ledger
from grid.node.lift import Place
from grid.node.model_app import model_routes
from grid.node.participant import Participant
from grid.node.peers import Peers
from grid.node.permissions import Permissions
from grid.node.project_app import project_routes
from grid.node.projects import Projects
from grid.node.request_app import request_routes
from grid.node.requests import Requests
from grid.node.statistics import Statistics, statistics_routes
from grid.node.tasks.app import task_routes
from grid.node.workers import Workers, worker_routes
from grid.transport import body
from grid.transport.app import CALLER, Routes
from grid.transport.auth import Authenticator
from grid.transport.feed import listen
from grid.transport.hello import health_handler, identity_handler, session_handler
from grid.transport.parts import send_parts
from grid.wire import node as wire
from grid.wire import runs, sums
from grid.wire.directory import Done
from grid.wire.log import HEADS, Heads
from grid.wire.names import Digest, PublicKey
from grid.wire.session import HEALTH, IDENTITY, SESSION


@dataclass(frozen=True)
class NodeParts:
    """What the handlers call. `status` describes the node at this moment."""

    identity: Identity
    node_id: str
    version: str
    auth: Authenticator
    access: Access
    house: House
    associations: Associations
    statistics: Statistics
    workers: Workers
    peers: Peers
    catalogue: Catalogue
    permissions: Permissions
    requests: Requests
    gates: Gates
    prekeys: Prekeys
    coordinator: Coordinator
    participant: Participant
    projects: Projects
    ledger: Ledger
    flea: FleaParts
    flaas: FlaasParts
    hosts: Hosts
    pygrid: PyGridParts
    status: Callable[[], wire.Status]
    busy: Callable[[], bool]
    audits: tuple[Audit, ...]
    now: Callable[[], float]


def routes(parts: NodeParts) -> Routes:
    """Every endpoint of a node with its handler."""
    return {
        SESSION: session_handler(parts.auth),
        IDENTITY: identity_handler(parts.identity, "node", parts.version, parts.node_id),
        HEALTH: health_handler(parts.identity, "node", parts.node_id, now=parts.now, busy=parts.busy),
        **data_routes(parts.catalogue, parts.permissions, parts.access, parts.ledger, parts.requests),
        **_state_routes(parts),
        **_owner_routes(parts),
        **_peer_routes(parts.peers),
        **_audit_routes(parts.audits),
        **_journal_routes(parts.participant),
        **_scientist_routes(parts.coordinator),
        **_participant_routes(parts.coordinator, parts.participant),
        **project_routes(parts.projects),
        **budget_routes(parts.ledger),
        **account_routes(parts.house),
        **pygrid_people(parts.house),
        **data_centric_routes(_data_centric(parts)),
        **house_routes(parts.associations, parts.workers),
        **association_routes(parts.associations),
        **statistics_routes(parts.statistics, parts.associations),
        **worker_routes(parts.workers),
        **request_routes(parts.requests, parts.gates, parts.permissions, parts.access),
        **model_routes(parts.flea.models, parts.hosts),
        **task_routes(parts.flea.registry, parts.flea.jobs, parts.flea.outcome),
        **flea_routes(parts.flea),
        **flaas_routes(parts.flaas),
        **pygrid_routes(parts.pygrid),
    }


def _data_centric(parts: NodeParts) -> DataCentricParts:
    return DataCentricParts(
        node_id=parts.node_id,
        version=parts.version,
        house=parts.house,
        catalogue=parts.catalogue,
        permissions=parts.permissions,
        access=parts.access,
        requests=parts.requests,
    )


def _state_routes(parts: NodeParts) -> Routes:
    async def status(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.STATUS, parts.status(), request=request)

    async def prekey(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.PREKEY, wire.Published(parts.prekeys.published()), request=request)

    return {wire.STATUS: status, wire.PREKEY: prekey}


def _owner_routes(parts: NodeParts) -> Routes:
    access = parts.access

    async def trusted(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.TRUSTED, wire.Trusted(tuple(access.trusted())), request=request)

    async def trust(request: web.Request) -> web.StreamResponse:
        whom = await body.read(request, wire.TRUST)
        await access.trust(whom.public_key, whom.name)
        return body.reply(wire.TRUST, Done(f"{whom.public_key} may train here"), request=request)

    async def distrust(request: web.Request) -> web.StreamResponse:
        key = body.part(request, "public_key", PublicKey)
        await access.distrust(key)
        return body.reply(wire.DISTRUST, Done(f"{key} may no longer train here"), request=request)

    return {
        wire.TRUSTED: trusted,
        wire.TRUST: trust,
        wire.DISTRUST: distrust,
    }


def _peer_routes(peers: Peers) -> Routes:
    async def known(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.PEERS, wire.KnownPeers(await peers.known()), request=request)

    async def pin(request: web.Request) -> web.StreamResponse:
        whom = await body.read(request, wire.PIN_PEER)
        await peers.pin(whom.name, whom.public_key)
        return body.reply(wire.PIN_PEER, Done(f"{whom.name} is known by {whom.public_key}"), request=request)

    async def forget(request: web.Request) -> web.StreamResponse:
        whom = await body.read(request, wire.FORGET_PEER)
        await peers.forget(whom.name)
        return body.reply(wire.FORGET_PEER, Done(f"{whom.name} will be met anew"), request=request)

    async def heads(request: web.Request) -> web.StreamResponse:
        return body.reply(HEADS, Heads(await peers.heads()), request=request)

    async def revoke(request: web.Request) -> web.StreamResponse:
        said = await peers.revoke((await body.read(request, wire.REVOKE_HERE)).revocation)
        return body.reply(wire.REVOKE_HERE, Done(f"{said.public_key} is believed no more"), request=request)

    async def events(request: web.Request) -> web.StreamResponse:
        return await listen(request, wire.NODE_EVENTS, peers.events)

    return {
        HEADS: heads,
        wire.PEERS: known,
        wire.PIN_PEER: pin,
        wire.FORGET_PEER: forget,
        wire.REVOKE_HERE: revoke,
        wire.NODE_EVENTS: events,
    }


def _audit_routes(audits: tuple[Audit, ...]) -> Routes:
    async def look(request: web.Request) -> web.StreamResponse:
        asked = await body.read(request, wire.AUDIT)
        logs = await asyncio.gather(*(audit.report(asked.witness) for audit in audits))
        return body.reply(wire.AUDIT, wire.LogsSeen(tuple(logs)), request=request)

    return {wire.AUDIT: look}


def _journal_routes(participant: Participant) -> Routes:
    async def all_parts(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.PARTS, wire.Parts(tuple(await participant.parts())), request=request)

    async def part_events(request: web.Request) -> web.StreamResponse:
        run = _run(request)
        return await listen(request, wire.PART_EVENTS, lambda after: participant.events(run, after), last="left")

    return {wire.PARTS: all_parts, wire.PART_EVENTS: part_events}


def _scientist_routes(coordinator: Coordinator) -> Routes:
    async def put_bundle(request: web.Request) -> web.StreamResponse:
        digest = body.part(request, "digest", Digest)
        piece = body.query(request, runs.PUT_BUNDLE)
        await coordinator.put_bundle(digest, request[CALLER], body.blocks(request, runs.PUT_BUNDLE), piece)
        return body.reply(runs.PUT_BUNDLE, Done(f"bundle {digest} is here"), request=request)

    async def bundle_held(request: web.Request) -> web.StreamResponse:
        body.part(request, "digest", Digest)
        held = coordinator.bundle_held(request[CALLER], body.query(request, runs.BUNDLE_HELD))
        return body.reply(runs.BUNDLE_HELD, held, request=request)

    async def start(request: web.Request) -> web.StreamResponse:
        message = await body.read(request, runs.START_RUN)
        return body.reply(runs.START_RUN, await coordinator.start(message, request[CALLER]), request=request)

    async def all_runs(request: web.Request) -> web.StreamResponse:
        return body.reply(runs.RUNS, await coordinator.runs(request[CALLER]), request=request)

    async def one_run(request: web.Request) -> web.StreamResponse:
        return body.reply(runs.RUN, await coordinator.info(_run(request), request[CALLER]), request=request)

    async def stop(request: web.Request) -> web.StreamResponse:
        return body.reply(runs.STOP_RUN, await coordinator.stop(_run(request), request[CALLER]), request=request)

    async def events(request: web.Request) -> web.StreamResponse:
        run, caller = _run(request), request[CALLER]
        return await listen(
            request, runs.RUN_EVENTS, lambda after: coordinator.events(run, caller, after), last="run-ended"
        )

    async def checkpoint(request: web.Request) -> web.StreamResponse:
        fetch = await body.read(request, runs.CHECKPOINT)
        return await send_parts(request, await coordinator.checkpoint(_run(request), request[CALLER], fetch))

    async def release(request: web.Request) -> web.StreamResponse:
        await coordinator.held.released(_run(request), key_of(request[CALLER]))
        return body.reply(runs.RELEASE, Done("it may be handed out, as far as you are concerned"), request=request)

    return {
        runs.RELEASE: release,
        **_history_routes(coordinator),
        runs.PUT_BUNDLE: put_bundle,
        runs.BUNDLE_HELD: bundle_held,
        runs.START_RUN: start,
        runs.RUNS: all_runs,
        runs.RUN: one_run,
        runs.STOP_RUN: stop,
        runs.RUN_EVENTS: events,
        runs.CHECKPOINT: checkpoint,
    }


def _history_routes(coordinator: Coordinator) -> Routes:
    async def task(request: web.Request) -> web.StreamResponse:
        return body.reply(runs.RUN_TASK, await coordinator.task(_run(request), request[CALLER]), request=request)

    async def plan(request: web.Request) -> web.StreamResponse:
        fetch = await body.read(request, runs.RUN_PLAN)
        return await send_parts(request, await coordinator.plan(_run(request), request[CALLER], fetch))

    async def metrics(request: web.Request) -> web.StreamResponse:
        since = body.query(request, runs.RUN_METRICS)
        told = await coordinator.metrics(_run(request), request[CALLER], since)
        return body.reply(runs.RUN_METRICS, told, request=request)

    return {runs.RUN_TASK: task, runs.RUN_PLAN: plan, runs.RUN_METRICS: metrics}


def _participant_routes(coordinator: Coordinator, participant: Participant) -> Routes:
    async def invite(request: web.Request) -> web.StreamResponse:
        message = await body.read(request, runs.INVITE)
        return body.reply(runs.INVITE, await participant.invited(message, request[CALLER]), request=request)

    async def bundle(request: web.Request) -> web.StreamResponse:
        fetch = await body.read(request, runs.BUNDLE)
        return await send_parts(request, await coordinator.offered(_run(request), 0, request[CALLER], fetch))

    async def model(request: web.Request) -> web.StreamResponse:
        fetch = await body.read(request, runs.MODEL)
        offered = await coordinator.offered(_run(request), _round(request), request[CALLER], fetch)
        return await send_parts(request, offered)

    async def report(request: web.Request) -> web.StreamResponse:
        blocks, limit = body.blocks(request, runs.REPORT), runs.REPORT.limit
        await coordinator.report(_run(request), _round(request), request[CALLER], blocks, limit)
        return body.reply(runs.REPORT, Done("heard"), request=request)

    async def update(request: web.Request) -> web.StreamResponse:
        blocks, piece = body.blocks(request, runs.UPDATE), body.query(request, runs.UPDATE)
        counted = await coordinator.update(_run(request), _round(request), request[CALLER], blocks, piece)
        return body.reply(runs.UPDATE, counted, request=request)

    async def update_held(request: web.Request) -> web.StreamResponse:
        piece = body.query(request, runs.UPDATE_HELD)
        _round(request)
        held = await coordinator.update_held(_run(request), request[CALLER], piece)
        return body.reply(runs.UPDATE_HELD, held, request=request)

    return {
        **_sum_routes(coordinator),
        runs.INVITE: invite,
        runs.BUNDLE: bundle,
        runs.MODEL: model,
        runs.REPORT: report,
        runs.UPDATE: update,
        runs.UPDATE_HELD: update_held,
    }


def _sum_routes(coordinator: Coordinator) -> Routes:
    async def keys(request: web.Request) -> web.StreamResponse:
        signed, summing = await body.read(request, sums.TELL_KEYS), await coordinator.summing(_run(request))
        told = await summing.keys(_place(request), key_of(request[CALLER]), signed)
        return body.reply(sums.TELL_KEYS, told, request=request)

    async def deal(request: web.Request) -> web.StreamResponse:
        message, summing = await body.read(request, sums.DEAL), await coordinator.summing(_run(request))
        told = await summing.deal(_place(request), key_of(request[CALLER]), message)
        return body.reply(sums.DEAL, told, request=request)

    async def survived(request: web.Request) -> web.StreamResponse:
        summing = await coordinator.summing(_run(request))
        told = await summing.survived(_place(request), key_of(request[CALLER]))
        return body.reply(sums.SURVIVED, told, request=request)

    async def consent(request: web.Request) -> web.StreamResponse:
        signed, summing = await body.read(request, sums.CONSENT), await coordinator.summing(_run(request))
        told = await summing.consent(_place(request), key_of(request[CALLER]), signed)
        return body.reply(sums.CONSENT, told, request=request)

    async def reveal(request: web.Request) -> web.StreamResponse:
        message, summing = await body.read(request, sums.REVEAL), await coordinator.summing(_run(request))
        await summing.reveal(_place(request), key_of(request[CALLER]), message)
        return body.reply(sums.REVEAL, Done("revealed"), request=request)

    return {
        sums.TELL_KEYS: keys,
        sums.DEAL: deal,
        sums.SURVIVED: survived,
        sums.CONSENT: consent,
        sums.REVEAL: reveal,
    }


def _place(request: web.Request) -> Place:
    return Place(_round(request), body.part(request, "sum", sums.SumId))


def _run(request: web.Request) -> str:
    return body.part(request, "run", runs.RunId)


def _round(request: web.Request) -> int:
    return body.part(request, "round", runs.Number)
