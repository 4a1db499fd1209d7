"""FriendlyFL's accounts, groups and sites."""

from __future__ import annotations

from aiohttp import web

from grid.accounts.book import Book
from grid.gateway.dialects.friendlyfl_rows import (
    Handlers,
    number,
    only_owner,
    page,
    resource,
    seen_sites,
    site_told,
    user_told,
)
from grid.gateway.record import Record
from grid.protocol.roles import NETWORK_ADMINISTRATOR
from grid.store.accounts import AccountRow, GroupRow
from grid.transport import body
from grid.transport.app import CALLER, Routes
from grid.wire import friendlyfl as wire
from grid.wire.problems import BadRequest, NotAllowed, NotFound


class UserRoutes:
    """Accounts: the gateway's owner makes, lists and removes them; each account sees itself."""

    _LISTING, _CREATE, _ONE, _PUT, *_ = wire.USERS

    def __init__(self, record: Record) -> None:
        self._house, self._book = record.house, record.house.book

    def routes(self) -> Routes:
        """Its endpoints, each with its handler."""
        return resource(wire.USERS, Handlers(self._listed, self._made, self._shown, self._changed, self._removed))

    def _told(self, row: AccountRow) -> wire.User:
        return user_told(row, self._book.groups.values())

    async def _listed(self, request: web.Request) -> web.StreamResponse:
        only_owner(request[CALLER])
        return page(request, self._LISTING, [self._told(row) for row in self._book.accounts.values()])

    async def _made(self, request: web.Request) -> web.StreamResponse:
        only_owner(request[CALLER])
        asked: wire.UserAsked = await body.read(request, self._CREATE)
        if asked.username is None or asked.password is None:
            raise BadRequest("an account has a username and a password")
        groups, role = self._names(asked.groups or []), NETWORK_ADMINISTRATOR.name
        row = await self._house.people.create(request[CALLER], asked.username, asked.password, asked.email or "", role)
        await self._house.groups.put_in(row.name, groups)
        return body.reply(self._CREATE, self._told(row), status=201)

    def _names(self, groups: list[int]) -> list[str]:
        return [_group(self._book, each).name for each in groups]

    def _mine(self, request: web.Request) -> AccountRow:
        row, caller = self._book.accounts.get(number(request)), request[CALLER]
        if caller.owner and row is None:
            raise NotFound("there is no such account")
        if row is None or not (caller.owner or row.name == caller.account):
            raise NotAllowed("this account is another's")
        return row

    async def _shown(self, request: web.Request) -> web.StreamResponse:
        return body.reply(self._ONE, self._told(self._mine(request)))

    async def _changed(self, request: web.Request) -> web.StreamResponse:
        asked: wire.UserAsked = await body.read(request, self._PUT)
        row, caller = self._mine(request), request[CALLER]
        groups = None if asked.groups is None else self._names(asked.groups)
        if groups is not None:
            only_owner(caller)
        row = await self._house.people.change(
            caller, row.name, email=asked.email, password=asked.password, groups=groups
        )
        return body.reply(self._PUT, self._told(row))

    async def _removed(self, request: web.Request) -> web.StreamResponse:
        only_owner(request[CALLER])
        await self._house.people.remove(request[CALLER], self._mine(request).name)
        return web.Response(status=204)


class GroupRoutes:
    """Groups of accounts: everybody reads them, the gateway's owner makes, renames and removes them."""

    _LISTING, _CREATE, _ONE, _PUT, *_ = wire.GROUPS

    def __init__(self, record: Record) -> None:
        self._groups, self._book = record.house.groups, record.house.book

    def routes(self) -> Routes:
        """Its endpoints, each with its handler."""
        return resource(wire.GROUPS, Handlers(self._listed, self._made, self._shown, self._changed, self._removed))

    async def _listed(self, request: web.Request) -> web.StreamResponse:
        return page(request, self._LISTING, [wire.Group(row.id, row.name) for row in self._book.groups.values()])

    async def _made(self, request: web.Request) -> web.StreamResponse:
        only_owner(request[CALLER])
        row = await self._groups.put((await body.read(request, self._CREATE)).name)
        return body.reply(self._CREATE, wire.Group(row.id, row.name), status=201)

    async def _shown(self, request: web.Request) -> web.StreamResponse:
        row = _group(self._book, number(request))
        return body.reply(self._ONE, wire.Group(row.id, row.name))

    async def _changed(self, request: web.Request) -> web.StreamResponse:
        only_owner(request[CALLER])
        before = _group(self._book, number(request)).name
        row = await self._groups.put((await body.read(request, self._PUT)).name, before)
        return body.reply(self._PUT, wire.Group(row.id, row.name))

    async def _removed(self, request: web.Request) -> web.StreamResponse:
        only_owner(request[CALLER])
        await self._groups.remove(_group(self._book, number(request)).name)
        return web.Response(status=204)


class SiteRoutes:
    """Sites and their heartbeat."""

    _LISTING, _CREATE, _ONE, _PUT, *_ = wire.SITES

    def __init__(self, record: Record) -> None:
        self._record, self._sites = record, record.sites

    def routes(self) -> Routes:
        """Its endpoints, each with its handler."""
        return {
            wire.SITE_LOOKUP: self._lookup,
            wire.HEARTBEAT: self._heartbeat,
            **resource(wire.SITES, Handlers(self._listed, self._made, self._shown, self._changed, self._removed)),
        }

    async def _listed(self, request: web.Request) -> web.StreamResponse:
        return page(
            request, self._LISTING, [site_told(site) for site in await seen_sites(self._record, request[CALLER])]
        )

    async def _made(self, request: web.Request) -> web.StreamResponse:
        asked: wire.SiteAsked = await body.read(request, self._CREATE)
        if asked.name is None:
            raise BadRequest("a site has a name")
        site = await self._sites.register(
            request[CALLER], (asked.uid or "").lower(), asked.name, asked.description or ""
        )
        return body.reply(self._CREATE, site_told(site), status=201)

    async def _shown(self, request: web.Request) -> web.StreamResponse:
        return body.reply(self._ONE, site_told(await self._sites.own(request[CALLER], number(request))))

    async def _changed(self, request: web.Request) -> web.StreamResponse:
        asked: wire.SiteAsked = await body.read(request, self._PUT)
        site = await self._sites.change(request[CALLER], number(request), asked.name, asked.description)
        return body.reply(self._PUT, site_told(site))

    async def _removed(self, request: web.Request) -> web.StreamResponse:
        await self._sites.remove(request[CALLER], number(request))
        return web.Response(status=204)

    async def _lookup(self, request: web.Request) -> web.StreamResponse:
        asked: wire.UidQuery = body.query(request, wire.SITE_LOOKUP)
        site = await self._sites.of_uid(asked.uid.lower())
        return body.reply(wire.SITE_LOOKUP, site_told(await self._sites.own(request[CALLER], site.id)))

    async def _heartbeat(self, request: web.Request) -> web.StreamResponse:
        said: wire.Heartbeat = await body.read(request, wire.HEARTBEAT)
        site = await self._sites.heartbeat(request[CALLER], said.uid.lower(), bool(said.status))
        return body.reply(wire.HEARTBEAT, site_told(site), status=202)


def _group(book: Book, number: int) -> GroupRow:
    """The group of a number. Raises NotFound."""
    for group in book.groups.values():
        if group.id == number:
            return group
    raise NotFound("there is no such group")
