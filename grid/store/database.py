"""SQLite behind one writer thread with group commit, and a reader beside it.

Whatever waits when the disk is ready is committed together: fifty callers share one `fsync` and
none is answered before it. A write that fails is undone alone, its neighbours stay.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from grid.store.schema import Snapshot, Transaction, connect, erase, prepare
from grid.wire.problems import Draining

T = TypeVar("T")
BATCH = 512
"""Writes that share a commit at most."""


@dataclass(slots=True)
class _Job:
    """One write on its way: what to do, who waits, what came of it."""

    work: Callable[[Transaction], Any]
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class Database:
    """One SQLite file, for one event loop; other processes may have it open too.

    Without a path it is a temporary file that is gone after `close`. At most `waiting` writes are
    queued; more of them wait their turn. `on_commit` are called on the loop with the topics
    (see `events`) that a commit touched.

    Raises:
        SchemaUnknown: the file is from a later version of the grid, or of another schema.
    """

    def __init__(self, path: Path | None, schema: Literal["gateway", "node"], *, waiting: int = 4096) -> None:
        self._temporary = None if path else tempfile.TemporaryDirectory(prefix="grid-")
        self.path = path or Path(self._temporary.name if self._temporary else "") / "grid.db"
        self.on_commit: list[Callable[[frozenset[str]], None]] = []
        self._durable = path is not None
        self._room = asyncio.Semaphore(waiting)
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._reader: Transaction | None = None
        self._readers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-reader")
        self._closed = False
        prepare(self.path, schema)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- what callers do ----------------------------------------------------------------------

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction; when this returns, it is on disk.

        `work` runs in the writer's thread: it touches nothing but the connection and what it was given.
        If it raises, what it did is undone and its error comes from here. A caller that is cancelled
        does not undo what it asked for.

        Raises:
            Draining: the database is being closed.
        """
        async with self._room:
            if self._closed:
                raise Draining
            loop = asyncio.get_running_loop()
            job = _Job(work, loop.create_future())
            self._start(loop)
            self._queue.put(job)
            result: T = await job.future
            return result

    async def read(self, work: Callable[[Snapshot], T]) -> T:
        """Run `work` on one snapshot of the committed rows, in the reader's thread."""
        if self._closed:
            raise Draining
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._look, work)

    def read_now(self, work: Callable[[Snapshot], T]) -> T:
        """As `read`, and the thread waits: for tiny look-ups at the start, and for commands."""
        with closing(connect(self.path, read_only=True)) as connection:
            return work(connection)

    def write_now(self, work: Callable[[Transaction], T]) -> T:
        """As `write`, and the thread (the loop's, if one runs) waits: at the start, and for commands."""
        with closing(connect(self.path, durable=self._durable)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            result = work(connection)  # if it raises, closing rolls back
            connection.execute("COMMIT")
            erase(connection)
        self._ring(frozenset(connection.topics))
        return result

    async def close(self) -> None:
        """Finish what is queued, then let go of the file."""
        if self._closed:
            return
        self._closed = True
        if self._writer is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._readers.shutdown)
        if self._reader is not None:
            self._reader.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    # --- the writer's thread ------------------------------------------------------------------

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._writer is None:
            connection = connect(self.path, durable=self._durable)
            self._writer = threading.Thread(
                target=self._write_on, args=(connection, loop), name="store-writer", daemon=True
            )
            self._writer.start()

    def _write_on(self, connection: Transaction, loop: asyncio.AbstractEventLoop) -> None:
        with closing(connection):
            while batch := self._next_batch():
                _commit(connection, batch)
                topics = frozenset(connection.topics)
                try:
                    loop.call_soon_threadsafe(self._answer, batch, topics)
                except RuntimeError:  # the loop is gone, and with it whoever waited
                    return

    def _next_batch(self) -> list[_Job]:
        """Everything that is waiting, at least one write; empty when the database is being closed."""
        batch: list[_Job] = []
        try:
            while len(batch) < BATCH:
                job = self._queue.get(block=not batch)
                if job is None:
                    if batch:
                        self._queue.put(None)  # for the next look
                    break
                batch.append(job)
        except queue.Empty:
            pass
        return batch

    # --- back on the loop ---------------------------------------------------------------------

    def _answer(self, batch: Sequence[_Job], topics: frozenset[str]) -> None:
        for job in batch:
            if job.future.done():  # its caller no longer waits
                continue
            if job.error is None:
                job.future.set_result(job.result)
            else:
                job.future.set_exception(job.error)
        self._ring(topics)

    def _ring(self, topics: frozenset[str]) -> None:
        if topics:
            for ring in self.on_commit:
                ring(topics)

    # --- the reader's thread ------------------------------------------------------------------

    def _look(self, work: Callable[[Snapshot], T]) -> T:
        if self._reader is None:
            self._reader = connect(self.path, read_only=True)
        self._reader.execute("BEGIN")
        try:
            return work(self._reader)
        finally:
            self._reader.execute("ROLLBACK")


def _commit(connection: Transaction, batch: Sequence[_Job]) -> None:
    """Run a batch in one transaction. If it cannot be committed, nothing of it is, and each caller hears so."""
    connection.topics.clear()
    try:
        connection.execute("BEGIN IMMEDIATE")
        for job in batch:
            _attempt(connection, job)
        connection.execute("COMMIT")
        erase(connection)
    except sqlite3.Error as error:  # the disk is full, or another process holds the lock too long
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.topics.clear()
        for job in batch:
            job.error = job.error or error


def _attempt(connection: Transaction, job: _Job) -> None:
    connection.execute("SAVEPOINT job")
    try:
        job.result = job.work(connection)
    except BaseException as error:  # noqa: BLE001 - its caller gets it
        job.error = error
        connection.execute("ROLLBACK TO job")  # fails if SQLite has undone the whole transaction: then all are told
    connection.execute("RELEASE job")
