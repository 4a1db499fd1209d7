"""Who takes part in a run, and how each one fares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from grid.wire.problems import NotInvited
from grid.wire.runs import ParticipantInfo, Peer


class Standing(StrEnum):
    """Where a participant stands in the run as a whole; rounds have assignments of their own."""

    INVITED = "invited"
    PREPARING = "preparing"
    READY = "ready"
    GONE = "gone"
    FAILED = "failed"


@dataclass
class Entry:
    """One participant; `examples` are those it may learn from, by its own word; `ready`: it has the plan loaded."""

    peer: Peer
    standing: Standing = Standing.INVITED
    reason: str = ""
    examples: int = 0
    ready: bool = False

    def info(self) -> ParticipantInfo:
        """As it is shown to the coordinator and the run's owner."""
        return ParticipantInfo(self.peer.node_id, self.standing.value, self.reason, self.examples)


class Roster:
    """The participants by public key (wire form)."""

    def __init__(self, peers: Iterable[Peer]) -> None:
        self._entries = {peer.public_key: Entry(peer) for peer in peers}

    def __getitem__(self, key: str) -> Entry:
        try:
            return self._entries[key]
        except KeyError:
            raise NotInvited from None

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def entries(self) -> list[Entry]:
        """All of them, in the order in which they were named."""
        return list(self._entries.values())

    def keys(self, *standings: Standing) -> frozenset[str]:
        """The keys of those that stand so."""
        return frozenset(key for key, entry in self._entries.items() if entry.standing in standings)

    def put(self, key: str, standing: Standing, reason: str = "") -> Entry:
        """Change how one stands."""
        entry = self[key]
        entry.standing, entry.reason = standing, reason
        return entry

    def name(self, key: str) -> str:
        """The node id of a key."""
        return self[key].peer.node_id

    def named(self, reasons: Mapping[str, str]) -> dict[str, str]:
        """Reasons by node id, where they were by key."""
        return {self.name(key): reason for key, reason in reasons.items()}

    def reasons(self) -> str:
        """Why those who do not take part do not, for a person."""
        absent = [e for e in self.entries() if e.standing in {Standing.FAILED, Standing.GONE}]
        return "; ".join(f"{e.peer.node_id}: {e.reason or e.standing}" for e in absent)
