"""FriendlyFL's accounts and sites."""

from __future__ import annotations

from aiohttp import web

from grid.gateway.dialects.friendlyfl_rows import number, only_owner, page, seen_sites, site_told, user_told
from grid.gateway.record import Record
from grid.store.accounts import AccountRow
from grid.transport import body
from grid.transport.app import CALLER, Routes
from grid.wire import friendlyfl as wire
from grid.wire.problems import BadRequest, NotAllowed


class UserRoutes:
    """Accounts: the gateway's owner makes, lists and removes them; each account sees itself."""

    _LISTING, _CREATE, _ONE, _PUT, _PATCH, _DELETE = wire.USERS

    def __init__(self, record: Record) -> None:
        self._record, self._accounts = record, record.accounts

    def routes(self) -> Routes:
        """Its endpoints, each with its handler."""
        return {
            self._LISTING: self._listed,
            self._CREATE: self._made,
            self._ONE: self._shown,
            self._PUT: self._changed,
            self._PATCH: self._changed,
            self._DELETE: self._removed,
        }

    async def _listed(self, request: web.Request) -> web.StreamResponse:
        only_owner(request[CALLER])
        return page(request, self._LISTING, [user_told(row) for row in await self._accounts.all()])

    async def _made(self, request: web.Request) -> web.StreamResponse:
        only_owner(request[CALLER])
        asked: wire.UserAsked = await body.read(request, self._CREATE)
        if asked.username is None or asked.password is None:
            raise BadRequest("an account has a username and a password")
        row = await self._accounts.create(asked.username, asked.password, asked.email or "")
        return body.reply(self._CREATE, user_told(row), status=201)

    async def _mine(self, request: web.Request) -> AccountRow:
        row = await self._accounts.get(number(request)) if request[CALLER].owner else None
        if row is None:
            found = [each for each in await self._accounts.all() if each.name == request[CALLER].account]
            if not found or found[0].id != number(request):
                raise NotAllowed("this account is another's")
            row = found[0]
        return row

    async def _shown(self, request: web.Request) -> web.StreamResponse:
        return body.reply(self._ONE, user_told(await self._mine(request)))

    async def _changed(self, request: web.Request) -> web.StreamResponse:
        asked: wire.UserAsked = await body.read(request, self._PUT)
        row = await self._mine(request)
        return body.reply(self._PUT, user_told(await self._accounts.change(row.id, asked.email, asked.password)))

    async def _removed(self, request: web.Request) -> web.StreamResponse:
        only_owner(request[CALLER])
        await self._accounts.delete(number(request))
        return web.Response(status=204)


class SiteRoutes:
    """Sites and their heartbeat."""

    _LISTING, _CREATE, _ONE, _PUT, _PATCH, _DELETE = wire.SITES

    def __init__(self, record: Record) -> None:
        self._record, self._sites = record, record.sites

    def routes(self) -> Routes:
        """Its endpoints, each with its handler."""
        return {
            wire.SITE_LOOKUP: self._lookup,
            wire.HEARTBEAT: self._heartbeat,
            self._LISTING: self._listed,
            self._CREATE: self._made,
            self._ONE: self._shown,
            self._PUT: self._changed,
            self._PATCH: self._changed,
            self._DELETE: self._removed,
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
