"""What the gateway keeps on disk: the register's port to the rows of `grid.store.members`."""

from __future__ import annotations

from grid.gateway.claim import Claim, recall_claim
from grid.protocol.membership import Member
from grid.store import members as rows
from grid.store.database import Database
from grid.store.members import Reserved, Row
from grid.store.schema import Transaction


class KeptMembers:
    """Members in a database: a `MemberStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> tuple[list[tuple[Member, Claim]], list[Reserved]]:
        """All members and all reserved ids."""
        kept = await self._database.read(rows.all_members)
        claims = [recall_claim(row.member.node, row.address, row.record, row.prekey) for row in kept]
        members = [(row.member, claim) for row, claim in zip(kept, claims, strict=True)]
        return members, await self._database.read(rows.all_reserved)

    async def put(self, member: Member, claim: Claim) -> None:
        """A node joined: it replaces whatever had its id."""
        row = Row(member, claim.node_address, claim.record, claim.prekey)
        await self._database.write(lambda connection: rows.put(connection, row))

    async def save(self, members: list[Member], reserved: list[Reserved], gone: list[str]) -> None:
        """New states of known members; ids that are now only reserved; ids that are free."""

        def write(connection: Transaction) -> None:
            rows.save(connection, members)
            rows.reserve(connection, reserved)
            rows.forget(connection, gone)

        await self._database.write(write)
