"""What FriendlyFL is told: the rows of this gateway's record in its fields, and its pages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from aiohttp import web
from msgspec import Meta

from grid.gateway.consortia import Consortium
from grid.gateway.dialects.friendlyfl_states import status_of
from grid.gateway.record import Record
from grid.gateway.shared_runs import SharedPart, at_task
from grid.store.accounts import AccountRow, GroupRow
from grid.store.record import PartyRow, SiteRow
from grid.transport import body
from grid.transport.app import Handler, Routes
from grid.transport.auth import Caller
from grid.wire import friendlyfl as wire
from grid.wire.endpoint import Endpoint
from grid.wire.problems import NotAllowed

Number = Annotated[int, Meta(ge=0)]


@dataclass(frozen=True)
class Handlers:
    """What answers to a resource: to its list, to a new one, and to one shown, changed and removed."""

    listed: Handler
    made: Handler
    shown: Handler
    changed: Handler
    removed: Handler


def resource(endpoints: tuple[Endpoint[Any, Any], ...], handlers: Handlers) -> Routes:
    """The six routes of a resource (`wire.friendlyfl`), each with its handler; changed whole or in part is the same."""
    h = handlers
    return dict(zip(endpoints, (h.listed, h.made, h.shown, h.changed, h.changed, h.removed), strict=True))


def user_told(row: AccountRow, groups: Iterable[GroupRow]) -> wire.User:
    """An account, as it is told."""
    inside = [group.id for group in groups if row.id in group.accounts]
    return wire.User(row.id, row.name, row.email, time_told(row.created), inside)


def site_told(site: SiteRow) -> wire.Site:
    """A site, as it is told."""
    times = time_told(site.created), time_told(site.updated)
    return wire.Site(site.id, site.name, site.description, site.uid, site.owner, int(site.connected), *times)


def project_told(found: Consortium, batch: int) -> wire.Project:
    """A project, as it is told; `batch` is its newest one."""
    row = found.project
    leader = next(site.id for party, site in found.parties if party.coordinates)
    times = time_told(row.created), time_told(row.updated)
    return wire.Project(row.id, row.name, row.description, leader, msgspec.json.decode(row.tasks), batch, *times)


def participant_told(row: PartyRow) -> wire.Participant:
    """A place in a project, as it is told."""
    role, times = "CO" if row.coordinates else "PA", (time_told(row.created), time_told(row.updated))
    return wire.Participant(row.id, row.site, row.project, role, row.notes, *times)


async def run_told(record: Record, part: SharedPart) -> wire.Run:
    """A part in a run, as it is told."""
    row, left = part.row, await record.deposits.of(part)
    seq, tasks = at_task(part.shared)

    def of(kind: str) -> list[Any]:
        return [
            {"id": d.id, "task_seq": d.task, "round_seq": d.round, "size": d.size, "created_at": time_told(d.created)}
            for d in left
            if d.kind == kind
        ]

    return wire.Run(
        id=row.id,
        project=row.project,
        participant=row.party,
        site_uid=part.site.uid,
        batch=row.batch,
        cur_seq=seq,
        tasks=tasks,
        role="CO" if part.party.coordinates else "PA",
        status=int(status_of(part.shared.run.state, row.assignment.state)),
        logs=of("logs"),
        artifacts=of("artifacts"),
        middle_artifacts=of("mid_artifacts"),
        created_at=time_told(row.created),
        updated_at=time_told(row.updated),
    )


async def seen_sites(record: Record, caller: Caller) -> list[SiteRow]:
    """A caller's own sites, and those of the projects that it coordinates."""
    led = {site.id for each in await record.consortia.of(caller) for _, site in each.own(caller)}
    return [s for s in await record.sites.all() if caller.owner or s.owner == caller.account or s.id in led]


def page(request: web.Request, endpoint: Endpoint[Any, Any], rows: list[Any]) -> web.Response:
    """One page of a list, with the addresses of those before and after it."""
    asked: wire.PageQuery = body.query(request, endpoint)
    first = (asked.page - 1) * wire.PAGE

    def address(page: int) -> str | None:
        if not 1 <= page <= max(1, -(-len(rows) // wire.PAGE)):
            return None
        return f"{request.scheme}://{request.host}{request.path}?{urlencode({'page': page})}"

    before, after = address(asked.page - 1), address(asked.page + 1)
    told = {"count": len(rows), "next": after, "previous": before, "results": rows[first : first + wire.PAGE]}
    return body.reply(endpoint, told)


def only_owner(caller: Caller) -> None:
    """Raises NotAllowed for everybody but the gateway's owner."""
    if not caller.owner:
        raise NotAllowed("accounts are the business of this gateway's owner")


def number(request: web.Request) -> int:
    """The number in a path. Raises BadRequest."""
    return body.part(request, "id", Number)


def time_told(at: float) -> str:
    """A time as that router writes it."""
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
