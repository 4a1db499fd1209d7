"""FriendlyFL's accounts, groups and sites."""

from __future__ import annotations

from aiohttp import web

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
from grid.store.accounts import AccountRow
from grid.transport import body
from grid.transport.app import CALLER, Routes
from grid.wire import friendlyfl as wire
from grid.wire.problems import BadRequest, NotAllowed


class UserRoutes:
    """Accounts: the gateway's owner makes, lists and removes them; each account sees itself."""

    _LISTING, _CREATE, _ONE, _PUT, *_ = wire.USERS

    def __init__(self, record: Record) -> None:
        self._record, self._accounts = record, record.accounts

    def routes(self) -> Routes:
        """Its endpoints, each with its handler."""
        return resource(wire.USERS, Handlers(self._listed, self._made, self._shown, self._changed, self._removed))

    async def _told(self, row: AccountRow) -> wire.User:
        return user_told(row, await self._accounts.groups())

    async def _listed(self, request: web.Request) -> web.StreamResponse:
        only_owner(request[CALLER])
        groups = await self._accounts.groups()
        return page(request, self._LISTING, [user_told(row, groups) for row in await self._accounts.all()])

    async def _made(self, request: web.Request) -> web.StreamResponse:
        only_owner(request[CALLER])
        asked: wire.UserAsked = await body.read(request, self._CREATE)
        if asked.username is None or asked.password is None:
            raise BadRequest("an account has a username and a password")
        row = await self._accounts.create(asked.username, asked.password, asked.email or "")
        await self._accounts.put_in_groups(row.id, asked.groups or [])
        return body.reply(self._CREATE, await self._told(row), status=201)

    async def _mine(self, request: web.Request) -> AccountRow:
        row = await self._accounts.get(number(request)) if request[CALLER].owner else None
        if row is None:
            found = [each for each in await self._accounts.all() if each.name == request[CALLER].account]
            if not found or found[0].id != number(request):
                raise NotAllowed("this account is another's")
            row = found[0]
        return row

    async def _shown(self, request: web.Request) -> web.StreamResponse:
        return body.reply(self._ONE, await self._told(await self._mine(request)))

    async def _changed(self, request: web.Request) -> web.StreamResponse:
        asked: wire.UserAsked = await body.read(request, self._PUT)
        row = await self._mine(request)
        if asked.groups is not None:
            only_owner(request[CALLER])
            await self._accounts.put_in_groups(row.id, asked.groups)
        row = await self._accounts.change(row.id, asked.email, asked.password)
        return body.reply(self._PUT, await self._told(row))

    async def _removed(self, request: web.Request) -> web.StreamResponse:
        only_owner(request[CALLER])
        await self._accounts.delete(number(request))
        return web.Response(status=204)


class GroupRoutes:
    """Groups of accounts: everybody reads them, the gateway's owner makes, renames and removes them."""

    _LISTING, _CREATE, _ONE, _PUT, *_ = wire.GROUPS

    def __init__(self, record: Record) -> None:
        self._accounts = record.accounts

    def routes(self) -> Routes:
        """Its endpoints, each with its handler."""
        return resource(wire.GROUPS, Handlers(self._listed, self._made, self._shown, self._changed, self._removed))

    async def _listed(self, request: web.Request) -> web.StreamResponse:
        return page(request, self._LISTING, [wire.Group(row.id, row.name) for row in await self._accounts.groups()])

    async def _made(self, request: web.Request) -> web.StreamResponse:
        only_owner(request[CALLER])
        row = await self._accounts.put_group((await body.read(request, self._CREATE)).name)
        return body.reply(self._CREATE, wire.Group(row.id, row.name), status=201)

    async def _shown(self, request: web.Request) -> web.StreamResponse:
        row = await self._accounts.group(number(request))
        return body.reply(self._ONE, wire.Group(row.id, row.name))

    async def _changed(self, request: web.Request) -> web.StreamResponse:
        only_owner(request[CALLER])
        row = await self._accounts.put_group((await body.read(request, self._PUT)).name, number(request))
        return body.reply(self._PUT, wire.Group(row.id, row.name))

    async def _removed(self, request: web.Request) -> web.StreamResponse:
        only_owner(request[CALLER])
        await self._accounts.delete_group(number(request))
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
