"""Users, roles and groups as PyGrid has them, at nodes and gateways: a translation onto the people of this daemon."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from grid.accounts.house import House
from grid.protocol.roles import Role
from grid.store.accounts import AccountRow, GroupRow
from grid.transport import body
from grid.transport.app import CALLER, Routes
from grid.transport.auth import Caller
from grid.wire import data_centric as wire
from grid.wire.accounts import Login
from grid.wire.problems import NotAllowed, NotAuthenticated, NotFound
from grid.wire.rights import Right


def pygrid_people(house: House) -> Routes:
    """Every route of users, roles and groups, with its handler."""
    return {**_signing_in(house), **_users(house), **_changes(house), **_roles(house), **_groups(house)}


def role_told(role: Role) -> wire.Told:
    """A role with PyGrid's flags."""
    return {"id": role.id, "name": role.name} | {flag: right in role.rights for flag, right in wire.FLAGS.items()}


def user_told(house: House, row: AccountRow) -> wire.Told:
    """A user, with role and groups in full. Nothing that signs in."""
    groups = [{"id": house.book.groups[name].id, "name": name} for name in sorted(row.groups)]
    role = role_told(house.book.role_of(row))
    return {"id": row.id, "email": row.email or row.name, "name": row.name, "role": role, "groups": groups}


def _seen(house: House, request: web.Request) -> AccountRow:
    """The account of the number in a path, if the caller may see it."""
    number = body.part(request, "id", wire.Number)
    for row in house.people.visible(request[CALLER]):
        if row.id == number:
            return row
    raise NotFound("there is no such user that you may see")


def _role_of(house: House, number: int) -> Role:
    if number not in house.book.roles:
        raise NotFound("there is no such role")
    return house.book.roles[number]


def _group_of(house: House, number: int) -> GroupRow:
    for group in house.book.groups.values():
        if group.id == number:
            return group
    raise NotFound("there is no such group")


def _signing_in(house: House) -> Routes:
    async def login(request: web.Request) -> web.StreamResponse:
        asked: wire.Credentials = await body.read(request, wire.LOGIN)
        tokens = await house.logins.login(Login(asked.email[:254], asked.password[:1024]), request.remote or "")
        told = {"token": tokens.token, "expires": tokens.expires, "refresh": tokens.refresh}
        return body.reply(wire.LOGIN, told, request=request)

    async def me(request: web.Request) -> web.StreamResponse:
        name = request[CALLER].account
        if name is None:
            raise NotAuthenticated("no user stands behind this call")
        return body.reply(wire.ME, user_told(house, house.book.account(name)), request=request)

    return {wire.LOGIN: login, wire.ME: me}


def _users(house: House) -> Routes:
    async def listed(request: web.Request) -> web.StreamResponse:
        rows = [user_told(house, row) for row in house.people.visible(request[CALLER])]
        return body.reply(wire.USERS, rows, request=request)

    async def found(request: web.Request) -> web.StreamResponse:
        asked: wire.UserQuery = await body.read(request, wire.FIND_USERS)
        group = None if asked.group is None else _group_of(house, asked.group).name
        rows = [
            user_told(house, row)
            for row in house.people.visible(request[CALLER])
            if asked.email in (None, row.email, row.name)
            and asked.role in (None, row.role)
            and (group is None or group in row.groups)
        ]
        return body.reply(wire.FIND_USERS, rows, request=request)

    async def added(request: web.Request) -> web.StreamResponse:
        asked: wire.NewUser = await body.read(request, wire.ADD_USER)
        caller = request[CALLER]
        if not caller.has(Right.CREATE_USERS):
            raise NotAllowed("your role does not let you create users")
        role = "" if asked.role is None else _role_of(house, asked.role).name
        row = await house.people.create(caller, asked.email, asked.password, asked.email, role)
        return body.reply(wire.ADD_USER, user_told(house, row), request=request)

    async def shown(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.USER, user_told(house, _seen(house, request)), request=request)

    async def removed(request: web.Request) -> web.StreamResponse:
        await house.people.remove(request[CALLER], _seen(house, request).name)
        return body.reply(wire.REMOVE_USER, {"message": "User removed"}, request=request)

    return {
        wire.USERS: listed,
        wire.FIND_USERS: found,
        wire.ADD_USER: added,
        wire.USER: shown,
        wire.REMOVE_USER: removed,
    }


def _changes(house: House) -> Routes:
    def route(what: str, endpoint: Any) -> Any:
        async def changed(request: web.Request) -> web.StreamResponse:
            asked: wire.UserChange = await body.read(request, endpoint)
            row, caller = _seen(house, request), request[CALLER]
            wanted = _wanted(house, what, asked)
            if what == "password" and caller.account == row.name:
                await house.logins.check(row.name, asked.present, request.remote or "")
            row = await house.people.change(caller, row.name, **wanted)
            if what == "password":
                await house.logins.end_all(row.name, but=caller.session)
            return body.reply(endpoint, user_told(house, row), request=request)

        return changed

    return {each: route(each.path.rpartition("/")[2], each) for each in wire.CHANGES}


def _wanted(house: House, what: str, asked: wire.UserChange) -> dict[str, Any]:
    value = getattr(asked, what)
    if value is None:
        raise NotAllowed(f"this route takes a {what}")
    if what == "role":
        return {"role": _role_of(house, value).name}
    return {what: [_group_of(house, each).name for each in value] if what == "groups" else value}


def _roles(house: House) -> Routes:
    listing, adding, showing, changing, removing = wire.ROLES

    async def listed(request: web.Request) -> web.StreamResponse:
        return body.reply(listing, [role_told(role) for role in house.book.roles.values()], request=request)

    async def added(request: web.Request) -> web.StreamResponse:
        asked: wire.RoleAsked = await body.read(request, adding)
        _must(request[CALLER], Right.EDIT_ROLES)
        role = await house.roles.put(request[CALLER], asked.name, asked.rights)
        return body.reply(adding, role_told(role), request=request)

    async def shown(request: web.Request) -> web.StreamResponse:
        role = _role_of(house, body.part(request, "id", wire.Number))
        return body.reply(showing, role_told(role), request=request)

    async def changed(request: web.Request) -> web.StreamResponse:
        asked: wire.RoleAsked = await body.read(request, changing)
        _must(request[CALLER], Right.EDIT_ROLES)
        before = _role_of(house, body.part(request, "id", wire.Number)).name
        role = await house.roles.put(request[CALLER], asked.name, asked.rights, before)
        return body.reply(changing, role_told(role), request=request)

    async def removed(request: web.Request) -> web.StreamResponse:
        _must(request[CALLER], Right.EDIT_ROLES)
        await house.roles.remove(request[CALLER], _role_of(house, body.part(request, "id", wire.Number)).name)
        return body.reply(removing, {"message": "Role removed"}, request=request)

    return dict(zip(wire.ROLES, (listed, added, shown, changed, removed), strict=True))


def _groups(house: House) -> Routes:
    listing, adding, showing, changing, removing = wire.GROUPS

    def told(group: GroupRow) -> wire.Told:
        return {"id": group.id, "name": group.name}

    async def listed(request: web.Request) -> web.StreamResponse:
        return body.reply(listing, [told(g) for g in house.groups.visible(request[CALLER])], request=request)

    async def added(request: web.Request) -> web.StreamResponse:
        asked: wire.GroupAsked = await body.read(request, adding)
        _must(request[CALLER], Right.CREATE_GROUPS)
        return body.reply(adding, told(await house.groups.put(asked.name)), request=request)

    async def shown(request: web.Request) -> web.StreamResponse:
        group = _group_of(house, body.part(request, "id", wire.Number))
        if group not in house.groups.visible(request[CALLER]):
            raise NotFound("there is no such group")
        return body.reply(showing, told(group), request=request)

    async def changed(request: web.Request) -> web.StreamResponse:
        asked: wire.GroupAsked = await body.read(request, changing)
        _must(request[CALLER], Right.CREATE_GROUPS)
        before = _group_of(house, body.part(request, "id", wire.Number)).name
        return body.reply(changing, told(await house.groups.put(asked.name, before)), request=request)

    async def removed(request: web.Request) -> web.StreamResponse:
        _must(request[CALLER], Right.CREATE_GROUPS)
        await house.groups.remove(_group_of(house, body.part(request, "id", wire.Number)).name)
        return body.reply(removing, {"message": "Group removed"}, request=request)

    return dict(zip(wire.GROUPS, (listed, added, shown, changed, removed), strict=True))


def _must(caller: Caller, right: Right) -> None:
    if not caller.has(right):
        raise NotAllowed(f"your role does not let you {right.replace('-', ' ')}")
