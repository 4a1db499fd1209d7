"""The HTTP of people, the same at a node and at a gateway: each handler parses, calls, responds."""

from __future__ import annotations

from aiohttp import web
from msgspec import UNSET

from grid.accounts.house import House
from grid.protocol.roles import Role
from grid.store.accounts import AccountRow, GroupRow
from grid.transport import body
from grid.transport.app import CALLER, Routes
from grid.transport.auth import Caller
from grid.wire import accounts as wire
from grid.wire.directory import Done
from grid.wire.names import PublicKey
from grid.wire.problems import NotAllowed, NotAuthenticated, NotFound
from grid.wire.rights import Right


def account_routes(house: House) -> Routes:
    """Every endpoint of accounts, roles, groups and sessions, with its handler."""
    return {
        **_login_routes(house),
        **_account_routes(house),
        **_key_routes(house),
        **_role_routes(house),
        **_group_routes(house),
    }


def account_told(house: House, row: AccountRow) -> wire.AccountInfo:
    """An account, as it is told."""
    return wire.AccountInfo(
        id=row.id,
        name=row.name,
        email=row.email,
        role=house.book.role_of(row).name,
        groups=tuple(sorted(row.groups)),
        keys=row.keys,
        password=bool(row.password),
        created=row.created,
    )


def _seen(house: House, caller: Caller, name: str) -> AccountRow:
    """One account, if the caller may see it: of others it is not even said whether they are there."""
    for row in house.people.visible(caller):
        if row.name == name:
            return row
    raise NotFound(f"there is no account {name} that you may see")


def _login_routes(house: House) -> Routes:
    logins = house.logins

    async def login(request: web.Request) -> web.StreamResponse:
        asked = await body.read(request, wire.LOGIN)
        return body.reply(wire.LOGIN, await logins.login(asked, request.remote or ""), request=request)

    async def refresh(request: web.Request) -> web.StreamResponse:
        asked = await body.read(request, wire.REFRESH)
        return body.reply(wire.REFRESH, await logins.refresh(asked.refresh), request=request)

    async def logout(request: web.Request) -> web.StreamResponse:
        caller = request[CALLER]
        if caller.session is None:
            raise NotAuthenticated("no session with a token is open; one with a key ends by itself")
        await logins.end(caller, caller.session)
        return body.reply(wire.LOGOUT, Done("the session is over"), request=request)

    async def me(request: web.Request) -> web.StreamResponse:
        name = request[CALLER].account
        if name is None:
            raise NotFound("what signed this stands for no account here")
        return body.reply(wire.ME, account_told(house, house.book.account(name)), request=request)

    async def sessions(request: web.Request) -> web.StreamResponse:
        told = [
            wire.SessionInfo(row.id, name, row.created, row.used, row.expires, row.place)
            for row, name in logins.visible(request[CALLER])
        ]
        return body.reply(wire.SESSIONS, wire.Sessions(tuple(told)), request=request)

    async def end(request: web.Request) -> web.StreamResponse:
        await logins.end(request[CALLER], body.part(request, "id", str))
        return body.reply(wire.END_SESSION, Done("the session is over"), request=request)

    return {
        wire.LOGIN: login,
        wire.REFRESH: refresh,
        wire.LOGOUT: logout,
        wire.ME: me,
        wire.SESSIONS: sessions,
        wire.END_SESSION: end,
    }


def _account_routes(house: House) -> Routes:
    people = house.people

    async def listed(request: web.Request) -> web.StreamResponse:
        told = tuple(account_told(house, row) for row in people.visible(request[CALLER]))
        return body.reply(wire.ACCOUNTS, wire.Accounts(told), request=request)

    async def shown(request: web.Request) -> web.StreamResponse:
        row = _seen(house, request[CALLER], body.part(request, "name", wire.AccountName))
        return body.reply(wire.ACCOUNT, account_told(house, row), request=request)

    async def added(request: web.Request) -> web.StreamResponse:
        new, caller = await body.read(request, wire.ADD_ACCOUNT), request[CALLER]
        if new.groups and not caller.has(Right.CREATE_GROUPS):
            raise NotAllowed("your role does not let you say who is in which group")
        for group in new.groups:
            house.book.group(group)
        row = await people.create(caller, new.name, new.password, new.email, new.role, new.keys)
        if new.groups:
            await house.groups.put_in(row.name, new.groups)
        return body.reply(wire.ADD_ACCOUNT, account_told(house, house.book.account(new.name)), request=request)

    async def changed(request: web.Request) -> web.StreamResponse:
        row = await _changed(house, request)
        return body.reply(wire.CHANGE_ACCOUNT, account_told(house, row), request=request)

    async def removed(request: web.Request) -> web.StreamResponse:
        name = body.part(request, "name", wire.AccountName)
        await people.remove(request[CALLER], name)
        return body.reply(wire.REMOVE_ACCOUNT, Done(f"the account {name} was removed"), request=request)

    return {
        wire.ACCOUNTS: listed,
        wire.ACCOUNT: shown,
        wire.ADD_ACCOUNT: added,
        wire.CHANGE_ACCOUNT: changed,
        wire.REMOVE_ACCOUNT: removed,
    }


async def _changed(house: House, request: web.Request) -> AccountRow:
    caller, asked = request[CALLER], await body.read(request, wire.CHANGE_ACCOUNT)
    row = _seen(house, caller, body.part(request, "name", wire.AccountName))
    said = {each: getattr(asked, each) for each in ("email", "password", "role", "groups")}
    if asked.password is not UNSET and caller.account == row.name and row.password:
        present = "" if asked.present is UNSET else asked.present
        await house.logins.check(row.name, present, request.remote or "")
    wanted = {name: value for name, value in said.items() if value is not UNSET}
    row = await house.people.change(caller, row.name, **wanted)
    if asked.password is not UNSET:
        await house.logins.end_all(row.name, but=caller.session)
    return row


def _key_routes(house: House) -> Routes:
    people = house.people

    async def add_key(request: web.Request) -> web.StreamResponse:
        caller, new = request[CALLER], await body.read(request, wire.ADD_KEY)
        row = _seen(house, caller, body.part(request, "name", wire.AccountName))
        row = await people.add_key(caller, row.name, new.public_key, new.proof)
        return body.reply(wire.ADD_KEY, account_told(house, row), request=request)

    async def remove_key(request: web.Request) -> web.StreamResponse:
        caller, key = request[CALLER], body.part(request, "public_key", PublicKey)
        row = _seen(house, caller, body.part(request, "name", wire.AccountName))
        await people.remove_key(caller, row.name, key)
        return body.reply(wire.REMOVE_KEY, Done(f"{key} no longer stands for {row.name}"), request=request)

    return {wire.ADD_KEY: add_key, wire.REMOVE_KEY: remove_key}


def _role_routes(house: House) -> Routes:
    roles = house.roles

    def told(role: Role, count: int) -> wire.RoleInfo:
        return wire.RoleInfo(role.id, role.name, tuple(sorted(role.rights)), role.preset, count)

    def now(role: Role) -> wire.RoleInfo:
        return next(told(each, count) for each, count in roles.all() if each.id == role.id)

    async def listed(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.ROLES, wire.Roles(tuple(told(*each) for each in roles.all())), request=request)

    async def added(request: web.Request) -> web.StreamResponse:
        new = await body.read(request, wire.ADD_ROLE)
        role = await roles.put(request[CALLER], new.name, new.rights)
        return body.reply(wire.ADD_ROLE, now(role), request=request)

    async def changed(request: web.Request) -> web.StreamResponse:
        new = await body.read(request, wire.CHANGE_ROLE)
        before = body.part(request, "name", wire.RoleName)
        role = await roles.put(request[CALLER], new.name, new.rights, before)
        return body.reply(wire.CHANGE_ROLE, now(role), request=request)

    async def removed(request: web.Request) -> web.StreamResponse:
        name = body.part(request, "name", wire.RoleName)
        await roles.remove(request[CALLER], name)
        return body.reply(wire.REMOVE_ROLE, Done(f"the role {name} was removed"), request=request)

    return {wire.ROLES: listed, wire.ADD_ROLE: added, wire.CHANGE_ROLE: changed, wire.REMOVE_ROLE: removed}


def _group_routes(house: House) -> Routes:
    groups = house.groups

    def told(group: GroupRow) -> wire.GroupInfo:
        return wire.GroupInfo(group.id, group.name, groups.members(group))

    async def listed(request: web.Request) -> web.StreamResponse:
        seen = tuple(told(group) for group in groups.visible(request[CALLER]))
        return body.reply(wire.GROUPS, wire.Groups(seen), request=request)

    async def added(request: web.Request) -> web.StreamResponse:
        group = await groups.put((await body.read(request, wire.ADD_GROUP)).name)
        return body.reply(wire.ADD_GROUP, told(group), request=request)

    async def changed(request: web.Request) -> web.StreamResponse:
        new = await body.read(request, wire.CHANGE_GROUP)
        group = await groups.put(new.name, body.part(request, "name", wire.AccountName))
        return body.reply(wire.CHANGE_GROUP, told(group), request=request)

    async def removed(request: web.Request) -> web.StreamResponse:
        name = body.part(request, "name", wire.AccountName)
        await groups.remove(name)
        return body.reply(wire.REMOVE_GROUP, Done(f"the group {name} was removed"), request=request)

    async def join(request: web.Request) -> web.StreamResponse:
        name, account = (body.part(request, each, wire.AccountName) for each in ("name", "account"))
        return body.reply(wire.JOIN_GROUP, told(await groups.join(name, account)), request=request)

    async def leave(request: web.Request) -> web.StreamResponse:
        name, account = (body.part(request, each, wire.AccountName) for each in ("name", "account"))
        return body.reply(wire.LEAVE_GROUP, told(await groups.leave(name, account)), request=request)

    return {
        wire.GROUPS: listed,
        wire.ADD_GROUP: added,
        wire.CHANGE_GROUP: changed,
        wire.REMOVE_GROUP: removed,
        wire.JOIN_GROUP: join,
        wire.LEAVE_GROUP: leave,
    }
