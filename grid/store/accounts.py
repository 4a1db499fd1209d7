"""Accounts, their keys and sessions, roles and groups: the same rows at a node and at a gateway."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from grid.protocol.roles import Role
from grid.wire.problems import AccountRefused, NotFound
from grid.wire.rights import Right


class AccountRow(Struct, frozen=True):
    """An account; `password` as `accounts.passwords` writes it, `created` in UTC seconds."""

    id: int
    name: str
    email: str
    password: str
    role: int
    created: float
    keys: tuple[str, ...] = ()
    groups: frozenset[str] = frozenset()


class GroupRow(Struct, frozen=True):
    """A group of accounts, by the numbers of these."""

    id: int
    name: str
    accounts: frozenset[int] = frozenset()


class SessionRow(Struct, frozen=True):
    """Somebody signed in; `secret` is the SHA-256 of what its next refresh has to say."""

    id: str
    account: int
    secret: bytes
    created: float
    used: float
    expires: float
    place: str


_ALL = "id, name, email, password, role, created"


def accounts(connection: sqlite3.Connection, number: int | None = None) -> list[AccountRow]:
    """All accounts, oldest first; or the one of this number."""
    one, asked = ("", ()) if number is None else ("WHERE {} = ?", (number,))
    keys: dict[int, list[str]] = {}
    for key, account in connection.execute(
        f"SELECT public_key, account FROM account_keys {one.format('account')} ORDER BY added",  # noqa: S608
        asked,
    ):
        keys.setdefault(account, []).append(key)
    inside: dict[int, set[str]] = {}
    for account, name in connection.execute(
        f"SELECT account_id, name FROM group_accounts JOIN groups ON id = group_id {one.format('account_id')}",  # noqa: S608
        asked,
    ):
        inside.setdefault(account, set()).add(name)
    rows = connection.execute(f"SELECT {_ALL} FROM accounts {one.format('id')} ORDER BY id", asked)  # noqa: S608
    return [
        replace(AccountRow(*row), keys=tuple(keys.get(row[0], ())), groups=frozenset(inside.get(row[0], ())))
        for row in rows
    ]


def add_account(connection: sqlite3.Connection, row: AccountRow, first: int | None) -> AccountRow:
    """Keep a new account, with its keys; `first` is the role that it gets if it is the first one, where that is given.

    Raises:
        AccountRefused: its name or one of its keys is another's.
    """
    if first is not None and connection.execute("SELECT 1 FROM accounts LIMIT 1").fetchone() is None:
        row = replace(row, role=first)
    _free(connection, row.name, "groups")
    try:
        made = connection.execute(
            "INSERT INTO accounts (name, email, password, role, created) VALUES (?, ?, ?, ?, ?)",
            (row.name, row.email, row.password, row.role, row.created),
        )
    except sqlite3.IntegrityError:
        raise AccountRefused(f"there is an account {row.name}") from None
    number = made.lastrowid or 0
    for key in row.keys:
        add_key(connection, number, key, row.created)
    return accounts(connection, number)[0]


def change_account(connection: sqlite3.Connection, number: int, email: str, password: str, role: int) -> None:
    """Another address, password or role."""
    connection.execute(
        "UPDATE accounts SET email = ?, password = ?, role = ? WHERE id = ?", (email, password, role, number)
    )


def delete_account(connection: sqlite3.Connection, number: int) -> None:
    """Forget an account with its keys and sessions. Raises NotFound."""
    if not connection.execute("DELETE FROM accounts WHERE id = ?", (number,)).rowcount:
        raise NotFound("there is no such account")


def add_key(connection: sqlite3.Connection, number: int, key: str, at: float) -> None:
    """A key stands for an account. Raises AccountRefused where it stands for another."""
    connection.execute(
        "INSERT OR IGNORE INTO account_keys (public_key, account, added) VALUES (?, ?, ?)", (key, number, at)
    )
    (whose,) = connection.execute("SELECT account FROM account_keys WHERE public_key = ?", (key,)).fetchone()
    if whose != number:
        raise AccountRefused("that key stands for another account")


def remove_key(connection: sqlite3.Connection, number: int, key: str) -> None:
    """It does no longer. Raises NotFound."""
    gone = connection.execute("DELETE FROM account_keys WHERE public_key = ? AND account = ?", (key, number))
    if not gone.rowcount:
        raise NotFound("no such key stands for this account")


def _free(connection: sqlite3.Connection, name: str, table: str) -> None:
    """No account has the name of a group: budgets and permissions go by names."""
    if connection.execute(f"SELECT 1 FROM {table} WHERE name = ?", (name,)).fetchone():  # noqa: S608
        raise AccountRefused(f"there is {'a group' if table == 'groups' else 'an account'} of the name {name}")


# --- roles ----------------------------------------------------------------------------------------


def roles(connection: sqlite3.Connection) -> list[Role]:
    """The roles that somebody made, oldest first."""
    rows = connection.execute("SELECT id, name, rights FROM roles ORDER BY id")
    return [Role(number, name, frozenset(map(Right, msgspec.json.decode(rights)))) for number, name, rights in rows]


def put_role(connection: sqlite3.Connection, number: int | None, name: str, rights: Iterable[Right]) -> int:
    """Keep a new role, or change one; its number. Raises AccountRefused, NotFound."""
    told = msgspec.json.encode(sorted(rights)).decode()
    try:
        if number is None:
            made = connection.execute("INSERT INTO roles (name, rights) VALUES (?, ?)", (name, told))
            return made.lastrowid or 0
        if not connection.execute("UPDATE roles SET name = ?, rights = ? WHERE id = ?", (name, told, number)).rowcount:
            raise NotFound("there is no such role")
    except sqlite3.IntegrityError:
        raise AccountRefused(f"there is a role {name}") from None
    return number


def delete_role(connection: sqlite3.Connection, number: int) -> None:
    """Forget a role. Raises AccountRefused where an account has it, NotFound."""
    if connection.execute("SELECT 1 FROM accounts WHERE role = ?", (number,)).fetchone():
        raise AccountRefused("accounts have this role; give them another one first")
    if not connection.execute("DELETE FROM roles WHERE id = ?", (number,)).rowcount:
        raise NotFound("there is no such role")


# --- groups ---------------------------------------------------------------------------------------


def groups(connection: sqlite3.Connection) -> list[GroupRow]:
    """All groups, oldest first."""
    inside = dict[int, set[int]]()
    for of, who in connection.execute("SELECT group_id, account_id FROM group_accounts"):
        inside.setdefault(of, set()).add(who)
    rows = connection.execute("SELECT id, name FROM groups ORDER BY id").fetchall()
    return [GroupRow(number, name, frozenset(inside.get(number, ()))) for number, name in rows]


def put_group(connection: sqlite3.Connection, number: int | None, name: str) -> int:
    """Keep a new group, or give one another name; its number. Raises AccountRefused, NotFound."""
    _free(connection, name, "accounts")
    try:
        if number is None:
            return connection.execute("INSERT INTO groups (name) VALUES (?)", (name,)).lastrowid or 0
        if not connection.execute("UPDATE groups SET name = ? WHERE id = ?", (name, number)).rowcount:
            raise NotFound("there is no such group")
    except sqlite3.IntegrityError:
        raise AccountRefused(f"there is a group {name}") from None
    return number


def delete_group(connection: sqlite3.Connection, number: int) -> None:
    """Forget a group; the accounts in it stay. Raises NotFound."""
    if not connection.execute("DELETE FROM groups WHERE id = ?", (number,)).rowcount:
        raise NotFound("there is no such group")


def put_in_groups(connection: sqlite3.Connection, account: int, numbers: Iterable[int]) -> None:
    """An account is in these groups from now on, and in no others. Raises NotFound."""
    connection.execute("DELETE FROM group_accounts WHERE account_id = ?", (account,))
    try:
        connection.executemany(
            "INSERT INTO group_accounts (group_id, account_id) VALUES (?, ?)", [(n, account) for n in set(numbers)]
        )
    except sqlite3.IntegrityError:
        raise NotFound("there is no such group") from None


# --- sessions -------------------------------------------------------------------------------------


def sessions(connection: sqlite3.Connection) -> list[SessionRow]:
    """All sessions, oldest first."""
    rows = connection.execute(
        "SELECT id, account, secret, created, used, expires, place FROM sessions ORDER BY created"
    )
    return [SessionRow(*row) for row in rows]


def put_session(connection: sqlite3.Connection, row: SessionRow) -> None:
    """Keep a session, in place of what was known of it."""
    connection.execute(
        "INSERT OR REPLACE INTO sessions (id, account, secret, created, used, expires, place) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (row.id, row.account, row.secret, row.created, row.used, row.expires, row.place),
    )


def end_sessions(connection: sqlite3.Connection, ids: Iterable[str]) -> None:
    """They are over."""
    connection.executemany("DELETE FROM sessions WHERE id = ?", [(each,) for each in ids])
