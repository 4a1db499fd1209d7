"""Roles that somebody made, and groups: what accounts may do, and who belongs together."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from grid.accounts.book import Book
from grid.accounts.people import check_name
from grid.protocol.roles import Role, may_give
from grid.store import accounts as rows
from grid.store.accounts import GroupRow
from grid.transport.auth import Caller
from grid.wire.problems import AccountRefused, NotFound
from grid.wire.rights import Right


class Roles:
    """Preset roles stay as they are; others are made by whose role lets them, with no more rights than they have."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def all(self) -> list[tuple[Role, int]]:
        """All roles, preset ones first, each with the number of its accounts."""
        having = [row.role for row in self._book.accounts.values()]
        return [(role, having.count(role.id)) for role in self._book.roles.values()]

    async def put(self, by: Caller, name: str, rights: Iterable[Right], before: str | None = None) -> Role:
        """A new role, or what the one named `before` is from now on.

        Raises:
            AccountRefused: there is one of this name, or it is preset.
            NotAllowed: it has, or would have, a right that the caller has not.
            NotFound: there is none to be changed.
        """
        old = None if before is None else self._own(by, before)
        if any(role.name == name and role != old for role in self._book.roles.values()):
            raise AccountRefused(f"there is a role {name}")
        new = Role(0 if old is None else old.id, name, frozenset(rights))
        if not by.owner:
            may_give(by.rights, new)
        number = await self._book.database.write(
            partial(rows.put_role, number=None if old is None else old.id, name=name, rights=new.rights)
        )
        await self._book.reload()
        return self._book.roles[number]

    async def remove(self, by: Caller, name: str) -> None:
        """Forget a role. Raises AccountRefused where accounts have it or it is preset, NotAllowed, NotFound."""
        role = self._own(by, name)
        await self._book.database.write(partial(rows.delete_role, number=role.id))
        await self._book.reload()

    def _own(self, by: Caller, name: str) -> Role:
        role = self._book.role(name)
        if role.preset:
            raise AccountRefused(f"{name} is a preset role, which stays as it is; make one of your own")
        if not by.owner:
            may_give(by.rights, role)
        return role


class Groups:
    """Groups of accounts; what they may have and spend goes by these."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def visible(self, by: Caller) -> list[GroupRow]:
        """The groups that a caller may see: one's own, or all."""
        groups = self._book.groups.values()
        if by.has(Right.CREATE_GROUPS) or by.has(Right.CREATE_USERS) or by.has(Right.TRIAGE_REQUESTS):
            return list(groups)
        return [group for group in groups if group.name in by.groups]

    def members(self, group: GroupRow) -> tuple[str, ...]:
        """The names of those who are in it."""
        return tuple(sorted(self._book.accounts[number].name for number in group.accounts))

    async def put(self, name: str, before: str | None = None) -> GroupRow:
        """A new group, or another name for one. Raises AccountRefused, NotFound."""
        check_name(name)
        number = None if before is None else self._book.group(before).id
        await self._book.database.write(partial(rows.put_group, number=number, name=name))
        await self._book.reload()
        return self._book.group(name)

    async def remove(self, name: str) -> None:
        """Forget a group; the accounts in it stay. Raises NotFound."""
        number = self._book.group(name).id
        await self._book.database.write(partial(rows.delete_group, number=number))
        await self._book.reload()

    async def put_in(self, account: str, groups: Iterable[str]) -> None:
        """An account is in these groups, and in no others. Raises NotFound."""
        row, numbers = self._book.account(account), [self._book.group(each).id for each in groups]
        await self._book.database.write(partial(rows.put_in_groups, account=row.id, numbers=numbers))
        await self._book.reload()

    async def join(self, name: str, account: str) -> GroupRow:
        """Put an account into a group. Raises NotFound."""
        self._book.group(name)
        await self.put_in(account, self._book.account(account).groups | {name})
        return self._book.group(name)

    async def leave(self, name: str, account: str) -> GroupRow:
        """Take an account out of a group. Raises NotFound."""
        inside = self._book.account(account).groups
        if name not in inside:
            raise NotFound(f"{account} is not in {name}")
        await self.put_in(account, inside - {name})
        return self._book.group(name)
