"""What the gateway keeps on disk: the ports of the register and the log to the rows of `grid.store`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from grid.faults import point
from grid.gateway.claim import Claim, recall_claim
from grid.gateway.log import Beside, Log
from grid.protocol.membership import Member
from grid.store import log
from grid.store import members as rows
from grid.store.database import Database
from grid.store.members import Reserved, Row
from grid.store.schema import Transaction

GATHER = 0.005
"""Seconds for which joins are gathered into one write. A disk that is quick would else be asked for a
commit by every other join, and switching threads costs more than the row."""


class KeptMembers:
    """Members in a database: a `MemberStore`. A key that is new to a name is in the log once its row is."""

    def __init__(self, database: Database, log: Log) -> None:
        self._database, self._log = database, log
        self._joined: list[tuple[Row, asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None  # what the newest join is part of

    async def load(self) -> tuple[list[tuple[Member, Claim]], list[Reserved]]:
        """All members and all reserved ids."""
        kept = await self._database.read(rows.all_members)
        claims = [recall_claim(row.member.node, row.address, row.record, row.prekey) for row in kept]
        members = [(row.member, claim) for row, claim in zip(kept, claims, strict=True)]
        return members, await self._database.read(rows.all_reserved)

    async def put(self, member: Member, claim: Claim) -> None:
        """A node joined: it replaces whatever had its id."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._joined.append((Row(member, claim.node_address, claim.record, claim.prekey), written))
        if len(self._joined) == 1:
            self._writing = asyncio.create_task(self._write_joined())
        await written

    async def save(self, members: list[Member], reserved: list[Reserved], gone: list[str]) -> None:
        """New states of known members; ids that are now only reserved; ids that are free."""
        if self._writing is not None and not self._writing.done():  # what was put before comes before
            await asyncio.wait([self._writing])

        def write(connection: Transaction) -> None:
            rows.save(connection, members)
            rows.reserve(connection, reserved)
            rows.forget(connection, gone)

        point("before-lease-row")
        await self._database.write(write)
        point("after-lease-row")

    async def _write_joined(self) -> None:
        await asyncio.sleep(GATHER)
        joined, self._joined = self._joined, []
        members = [row for row, _ in joined]
        signed = ((row.member.node, row.record.signer) for row in members if row.record)
        try:
            point("before-join-row")
            await self._log.list_all(signed, partial(rows.put, joined=members))
            point("after-join-row")
        except Exception as error:  # noqa: BLE001 - those who wait get it
            _settle(joined, error)
        else:
            _settle(joined, None)


class KeptLog:
    """The transparency log in a database: a `LogStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> list[bytes]:
        """All entries, in their order."""
        return await self._database.read(log.entries)

    async def append(self, first: int, entries: Sequence[bytes], beside: Beside | None = None) -> None:
        """Add entries from position `first` on, and what is written beside them: all of it or nothing."""

        def write(connection: Transaction) -> None:
            log.append(connection, first, entries)
            if beside is not None:
                beside(connection)

        await self._database.write(write)

    async def read(self, after: int, limit: int) -> list[bytes]:
        """Entries from a position on."""
        return await self._database.read(partial(log.entries, after=after, limit=limit))


def _settle(joined: list[tuple[Row, asyncio.Future[None]]], error: Exception | None) -> None:
    for _, written in joined:
        if written.done():  # its caller hung up
            continue
        if error:
            written.set_exception(error)
        else:
            written.set_result(None)
