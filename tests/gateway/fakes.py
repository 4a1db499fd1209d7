"""Small stand-ins for what the gateway's rules touch: a clock moved by hand, a store in memory, nodes."""

from __future__ import annotations

from grid.crypto.identity import Identity
from grid.gateway.claim import Claim
from grid.protocol.documents import sign_document
from grid.protocol.membership import Member
from grid.store.members import Reserved
from grid.wire.directory import NODE_RECORD, Join, NodeRecord
from grid.wire.problems import AddressRefused

START = 1_800_000_000.0


class Clock:
    def __init__(self, time: float = START) -> None:
        self.time = time

    def __call__(self) -> float:
        return self.time

    def passes(self, seconds: float) -> None:
        self.time += seconds


class MemoryStore:
    """Keeps rows as a database would; `broken` makes the next write fail."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[Member, Claim]] = {}
        self.reserved: dict[str, Reserved] = {}
        self.broken = False

    async def load(self) -> tuple[list[tuple[Member, Claim]], list[Reserved]]:
        return list(self.rows.values()), list(self.reserved.values())

    async def put(self, member: Member, claim: Claim) -> None:
        if self.broken:
            raise OSError("disk full")
        self.rows[member.node] = member, claim
        self.reserved.pop(member.node, None)

    async def save(self, members: list[Member], reserved: list[Reserved], gone: list[str]) -> None:
        for member in members:
            self.rows[member.node] = member, self.rows[member.node][1]
        for node_id in (*(each.node_id for each in reserved), *gone):
            self.rows.pop(node_id, None)
            self.reserved.pop(node_id, None)
        self.reserved.update({each.node_id: each for each in reserved})


def open_world(address: str) -> None:
    if "inside" in address:
        raise AddressRefused(f"{address} points inside")


class Key:
    """A node's key, and what it signs."""

    def __init__(self, seed: int = 1) -> None:
        self.identity = Identity.from_seed(bytes([seed]) * 32)
        self.id = self.identity.id

    def join(
        self,
        node_id: str,
        *tags: str,
        version: float = START,
        address: str = "http://node.example",
        lives: float = 86400.0,
        models: tuple[str, ...] = (),
    ) -> Join:
        """A signed join; `version` in seconds, `lives` seconds beyond it."""
        record = NodeRecord(
            node_id=node_id,
            node_address=address,
            version=int(version * 1000),
            expires=version + lives,
            tags=tags,
            models=models,
            public_key=self.id,
        )
        return Join(node_id, address, sign_document(self.identity, NODE_RECORD, record), b"prekey")


def rfc(node_id: str, address: str = "http://rfc.example") -> Join:
    """A join with the RFC's two fields."""
    return Join(node_id, address)
