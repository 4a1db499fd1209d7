"""The accounts of a gateway: who may call with a name and a password; of the password only scrypt's result is kept."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from msgspec import Struct

from grid.wire.problems import AccountRefused, NotFound


class AccountRow(Struct, frozen=True):
    """An account; `created` in UTC seconds."""

    id: int
    name: str
    email: str
    salt: bytes
    hash: bytes
    created: float


class GroupRow(Struct, frozen=True):
    """A group of accounts, by the numbers of these."""

    id: int
    name: str
    accounts: frozenset[int] = frozenset()


_ALL = "id, name, email, salt, hash, created"


def add_account(connection: sqlite3.Connection, name: str, email: str, salt: bytes, digest: bytes, at: float) -> int:
    """Keep a new account; its number. Raises AccountRefused."""
    try:
        made = connection.execute(
            "INSERT INTO accounts (name, email, salt, hash, created) VALUES (?, ?, ?, ?, ?)",
            (name, email, salt, digest, at),
        )
    except sqlite3.IntegrityError:
        raise AccountRefused(f"there is an account {name}") from None
    return made.lastrowid or 0


def accounts(connection: sqlite3.Connection) -> list[AccountRow]:
    """All accounts, oldest first."""
    return [AccountRow(*row) for row in connection.execute(f"SELECT {_ALL} FROM accounts ORDER BY id")]  # noqa: S608


def find_account(connection: sqlite3.Connection, name: str) -> AccountRow | None:
    """The account of a name."""
    row = connection.execute(f"SELECT {_ALL} FROM accounts WHERE name = ?", (name,)).fetchone()  # noqa: S608
    return AccountRow(*row) if row else None


def change_account(connection: sqlite3.Connection, name: str, email: str, salt: bytes, digest: bytes) -> None:
    """Another address or password."""
    connection.execute("UPDATE accounts SET email = ?, salt = ?, hash = ? WHERE name = ?", (email, salt, digest, name))


def delete_account(connection: sqlite3.Connection, number: int) -> None:
    """Forget an account. Raises NotFound."""
    if not connection.execute("DELETE FROM accounts WHERE id = ?", (number,)).rowcount:
        raise NotFound("there is no such account")


# --- groups ---------------------------------------------------------------------------------------


def groups(connection: sqlite3.Connection) -> list[GroupRow]:
    """All groups, oldest first."""
    inside = connection.execute("SELECT group_id, account_id FROM group_accounts").fetchall()
    rows = connection.execute("SELECT id, name FROM groups ORDER BY id").fetchall()
    return [GroupRow(number, name, frozenset(who for of, who in inside if of == number)) for number, name in rows]


def put_group(connection: sqlite3.Connection, number: int | None, name: str) -> int:
    """Keep a new group, or give one another name; its number. Raises AccountRefused, NotFound."""
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
