"""Opening SQLite files and bringing them to the present schema.

A schema is a folder of numbered SQL files under `migrations/`. Each is applied once, in order, in
one transaction with its row in `schema_version`: a file has a schema wholly or not at all.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from grid.wire.problems import SchemaUnknown

BUSY = 10.0
"""Seconds to wait while another process writes."""
WAL_KEPT = 64 * 1024 * 1024
"""Bytes of write-ahead log that stay on disk between checkpoints."""

MIGRATIONS = Path(__file__).parent / "migrations"


Snapshot = sqlite3.Connection
"""What a read works on; the name by which rooms above speak of it, since only this one knows SQL."""


class Transaction(sqlite3.Connection):
    """A connection that writes.

    `topics` are those whose listeners are told once it has committed; `erasing` is set by a write
    after which what it deleted must be gone from the write-ahead log too.
    """

    topics: set[str]
    erasing: bool


def connect(path: Path, *, durable: bool = True, read_only: bool = False) -> Transaction:
    """A connection: write-ahead log, every commit on disk (if `durable`), foreign keys kept."""
    connection = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False, factory=Transaction)
    connection.topics, connection.erasing = set(), False
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA secure_delete = ON")  # an erased private key leaves no copy in a free page
    connection.execute(f"PRAGMA journal_size_limit = {WAL_KEPT}")
    connection.execute(f"PRAGMA query_only = {int(read_only)}")
    return connection


def prepare(path: Path, schema: str, folder: Path | None = None) -> None:
    """Make the file if there is none, readable by its owner alone, and apply the migrations it lacks.

    Raises:
        SchemaUnknown: the file has migrations that this program does not know.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(path.parent):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with closing(connect(path)) as connection:
            migrate(connection, folder or MIGRATIONS / schema)


def migrate(connection: sqlite3.Connection, folder: Path) -> None:
    """Apply what is new in a folder of migrations: all of it, or nothing."""
    files = sorted(folder.glob("[0-9]*.sql"))
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, name TEXT NOT NULL)"
        )
        applied = [name for (name,) in connection.execute("SELECT name FROM schema_version ORDER BY version")]
        if applied != [file.stem for file in files[: len(applied)]]:
            raise SchemaUnknown(f"this database was made by {applied}, this program knows {[f.stem for f in files]}")
        for version, file in enumerate(files[len(applied) :], len(applied) + 1):
            for statement in statements(file.read_text()):
                connection.execute(statement)
            connection.execute("INSERT INTO schema_version (version, name) VALUES (?, ?)", (version, file.stem))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def statements(script: str) -> Iterator[str]:
    """The statements of a script, one by one: `executescript` would commit before it begins."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def erase(connection: Transaction) -> None:
    """Empty the write-ahead log after a commit that asked for it; if a reader is in the way, after the next."""
    if connection.erasing:
        (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        connection.erasing = bool(busy)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time: a file that is just being switched to a write-ahead log refuses everybody else."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
