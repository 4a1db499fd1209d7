"""Who is who, in memory: every call that is signed or has a token looks here, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from grid.protocol.roles import Role
from grid.store import accounts as rows
from grid.store.accounts import AccountRow, GroupRow, SessionRow
from grid.store.database import Database
from grid.store.schema import Snapshot
from grid.transport.auth import Standing
from grid.wire.problems import NotFound


class Book:
    """All accounts, roles, groups and sessions of a daemon.

    `presets`: its preset roles, that of a new account first, its owner's last. Nothing else writes to these tables
    while the daemon runs.
    """

    def __init__(self, database: Database, presets: tuple[Role, ...]) -> None:
        self.database, self.presets = database, presets
        self.sessions = {row.id: row for row in database.read_now(rows.sessions)}
        self._fill(*database.read_now(_everything))

    def _fill(self, accounts: Iterable[AccountRow], roles: Iterable[Role], groups: Iterable[GroupRow]) -> None:
        self.accounts = {row.id: row for row in accounts}
        self.by_name = {row.name: row for row in self.accounts.values()}
        self.by_key = {key: row for row in self.accounts.values() for key in row.keys}
        self.roles = {role.id: role for role in (*self.presets, *roles)}
        self.groups = {group.name: group for group in groups}
        self._standings: dict[int, Standing] = {}

    async def reload(self) -> None:
        """Read everything again, after a change to roles or groups."""
        self._fill(*await self.database.read(_everything))

    async def reread(self, number: int) -> AccountRow:
        """Read one account again, after a change to it alone."""
        (row,) = await self.database.read(partial(rows.accounts, number=number))
        for key in self.accounts[number].keys if number in self.accounts else ():
            del self.by_key[key]
        self._standings.pop(number, None)
        self.accounts[number] = self.by_name[row.name] = row
        self.by_key.update(dict.fromkeys(row.keys, row))
        return row

    # --- looking up ---------------------------------------------------------------------------------

    def account(self, name: str) -> AccountRow:
        """The account of a name. Raises NotFound."""
        try:
            return self.by_name[name]
        except KeyError:
            raise NotFound(f"there is no account {name}") from None

    def role(self, name: str) -> Role:
        """The role of a name. Raises NotFound."""
        for role in self.roles.values():
            if role.name == name:
                return role
        raise NotFound(f"there is no role {name}; there are {', '.join(role.name for role in self.roles.values())}")

    def group(self, name: str) -> GroupRow:
        """The group of a name. Raises NotFound."""
        try:
            return self.groups[name]
        except KeyError:
            raise NotFound(f"there is no group {name}") from None

    def role_of(self, account: AccountRow) -> Role:
        """What an account may do."""
        return self.roles[account.role]

    def standing_of(self, account: AccountRow) -> Standing:
        """What an account is here."""
        found = self._standings.get(account.id)
        if found is None:
            role = self.role_of(account)
            found = Standing(account.name, account.groups, frozenset(role.rights), role.owns)
            self._standings[account.id] = found
        return found

    def standing(self, key: str) -> Standing | None:
        """What the account is that a key (its id) stands for; None if it stands for none."""
        account = self.by_key.get(key)
        return None if account is None else self.standing_of(account)

    def standing_named(self, name: str) -> Standing | None:
        """What the account of a name is; None if there is none."""
        account = self.by_name.get(name)
        return None if account is None else self.standing_of(account)

    def name_of(self, key: str) -> str:
        """By what the holder of a key is known: the account that it stands for, else the key."""
        account = self.by_key.get(key)
        return key if account is None else account.name

    def session(self, session: str) -> SessionRow | None:
        """A session that was not ended, if its account is still there."""
        row = self.sessions.get(session)
        return row if row is not None and row.account in self.accounts else None


def _everything(connection: Snapshot) -> tuple[list[AccountRow], list[Role], list[GroupRow]]:
    return rows.accounts(connection), rows.roles(connection), rows.groups(connection)
