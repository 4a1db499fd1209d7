"""What the gateway keeps on disk: the register's port to the rows of `grid.store.members`."""

from __future__ import annotations

import asyncio

from grid.gateway.claim import Claim, recall_claim
from grid.protocol.membership import Member
from grid.store import members as rows
from grid.store.database import Database
from grid.store.members import Reserved, Row
from grid.store.schema import Transaction

GATHER = 0.005
"""Seconds for which joins are gathered into one write. A disk that is quick would else be asked for a
commit by every other join, and switching threads costs more than the row."""


class KeptMembers:
    """Members in a database: a `MemberStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._gathered: list[Row] = []
        self._writing: set[asyncio.Task[None]] = set()
        self._next: asyncio.Task[None] | None = None

    async def load(self) -> tuple[list[tuple[Member, Claim]], list[Reserved]]:
        """All members and all reserved ids."""
        kept = await self._database.read(rows.all_members)
        claims = [recall_claim(row.member.node, row.address, row.record, row.prekey) for row in kept]
        members = [(row.member, claim) for row, claim in zip(kept, claims, strict=True)]
        return members, await self._database.read(rows.all_reserved)

    async def put(self, member: Member, claim: Claim) -> None:
        """A node joined: it replaces whatever had its id."""
        self._gathered.append(Row(member, claim.node_address, claim.record, claim.prekey))
        if self._next is None:
            self._next = asyncio.create_task(self._write_gathered())
            self._writing.add(self._next)
            self._next.add_done_callback(self._writing.discard)
        await asyncio.shield(self._next)  # one caller who hangs up does not undo the others' rows

    async def save(self, members: list[Member], reserved: list[Reserved], gone: list[str]) -> None:
        """New states of known members; ids that are now only reserved; ids that are free."""
        if self._next:  # what was put before comes before
            await asyncio.shield(self._next)

        def write(connection: Transaction) -> None:
            rows.save(connection, members)
            rows.reserve(connection, reserved)
            rows.forget(connection, gone)

        await self._database.write(write)

    async def _write_gathered(self) -> None:
        await asyncio.sleep(GATHER)
        gathered, self._gathered, self._next = self._gathered, [], None

        def write(connection: Transaction) -> None:
            for row in gathered:
                rows.put(connection, row)

        await self._database.write(write)
