"""A relay's mailboxes: who reads where, and the sealed letters that wait.

A letter is a row, and the event by which its recipient hears of it; what is small lies in the event itself. Once it
is taken the event is gone, and the row stays until the letter expires, so that it is not taken in a second time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from msgspec import Struct

from grid.store.events import append
from grid.store.schema import Transaction
from grid.wire.problems import LetterRepeated
from grid.wire.relay import LETTER_ENTRY


class LetterRow(Struct, frozen=True):
    """A letter: `id` is the SHA-256 of its envelope, `sender` a public key; times are UTC seconds."""

    mailbox: str
    id: str
    sender: str
    size: int
    expires: float


def topic_of(mailbox: str) -> str:
    """The topic of the events that tell of a mailbox's letters."""
    return f"mailbox/{mailbox}"


# --- mailboxes ----------------------------------------------------------------------------------


def open_mailbox(connection: sqlite3.Connection, name: str, prekey: bytes, now: float) -> None:
    """Its holder reads there from now on."""
    connection.execute(
        """
        INSERT INTO mailboxes (name, prekey, opened) VALUES (?, ?, ?)
        ON CONFLICT (name) DO UPDATE SET prekey = excluded.prekey, opened = excluded.opened
        """,
        (name, prekey, now),
    )


def all_mailboxes(connection: sqlite3.Connection) -> list[tuple[str, bytes, float]]:
    """Name, prekey, and when it was last opened, of each."""
    return connection.execute("SELECT name, prekey, opened FROM mailboxes ORDER BY opened").fetchall()


def prekey_of(connection: sqlite3.Connection, name: str) -> bytes | None:
    """What letters for a mailbox are sealed to, if it is open."""
    found = connection.execute("SELECT prekey FROM mailboxes WHERE name = ?", (name,)).fetchone()
    return found[0] if found else None


def close_mailboxes(connection: sqlite3.Connection, names: Iterable[str]) -> None:
    """Forget mailboxes; their letters go when they expire."""
    connection.executemany("DELETE FROM mailboxes WHERE name = ?", [(name,) for name in names])


# --- letters ------------------------------------------------------------------------------------


def put(connection: Transaction, row: LetterRow, now: float, body: bytes | None) -> None:
    """A letter came; `body` where it is small. Raises LetterRepeated."""
    told = {"letter": row.id, "size": row.size} | ({} if body is None else {"body": body})
    cursor = append(connection, topic_of(row.mailbox), LETTER_ENTRY, now, told)
    try:
        connection.execute(
            "INSERT INTO letters (mailbox, id, sender, size, expires, cursor) VALUES (?, ?, ?, ?, ?, ?)",
            (row.mailbox, row.id, row.sender, row.size, row.expires, cursor),
        )
    except sqlite3.IntegrityError:
        raise LetterRepeated from None


def has(connection: sqlite3.Connection, mailbox: str, letter: str) -> bool:
    """Whether this letter came before, taken or not."""
    return bool(connection.execute("SELECT 1 FROM letters WHERE mailbox = ? AND id = ?", (mailbox, letter)).fetchone())


def take(connection: Transaction, mailbox: str, ids: Iterable[str]) -> list[LetterRow]:
    """Letters were dealt with: those of them that were still waiting."""
    taken = []
    for letter in ids:
        found = connection.execute(
            """
            SELECT mailbox, id, sender, size, expires, cursor FROM letters
            WHERE mailbox = ? AND id = ? AND cursor IS NOT NULL
            """,
            (mailbox, letter),
        ).fetchone()
        if found:
            connection.execute("DELETE FROM events WHERE cursor = ?", (found[-1],))
            connection.execute("UPDATE letters SET cursor = NULL WHERE mailbox = ? AND id = ?", (mailbox, letter))
            taken.append(LetterRow(*found[:-1]))
    return taken


def expire(connection: Transaction, now: float, limit: int = 1000) -> list[tuple[LetterRow, bool]]:
    """Forget letters whose time is over, the oldest first; of each, whether it was still waiting."""
    rows = connection.execute(
        """
        SELECT mailbox, id, sender, size, expires, cursor FROM letters WHERE expires <= ? ORDER BY expires LIMIT ?
        """,
        (now, limit),
    ).fetchall()
    connection.executemany("DELETE FROM events WHERE cursor = ?", [(row[-1],) for row in rows])
    connection.executemany("DELETE FROM letters WHERE mailbox = ? AND id = ?", [row[:2] for row in rows])
    return [(LetterRow(*row[:-1]), row[-1] is not None) for row in rows]


def all_letters(connection: sqlite3.Connection) -> list[tuple[LetterRow, bool]]:
    """All letters that are known; of each, whether it still waits."""
    rows = connection.execute("SELECT mailbox, id, sender, size, expires, cursor IS NOT NULL FROM letters")
    return [(LetterRow(*row[:-1]), bool(row[-1])) for row in rows]
