"""The accounts of a gateway: who may call with a name and a password; of the password only scrypt's result is kept."""

from __future__ import annotations

import sqlite3

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
