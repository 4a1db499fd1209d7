"""What a node works with, in one place: handed to its coordinator and its participant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from grid.accounts.house import House
from grid.associations.service import Associations
from grid.client.calls import Calls
from grid.client.egress import Egress
from grid.crypto.envelope import Header
from grid.crypto.identity import Identity
from grid.learning.questions import LEAST_ROWS
from grid.node.access import Access
from grid.node.catalogue import Catalogue
from grid.node.gates import Gates
from grid.node.keys import Prekeys
from grid.node.ledger import Ledger
from grid.node.peers import Peers
from grid.node.permissions import Permissions
from grid.node.records import RunRecords
from grid.node.requests import Requests
from grid.protocol.secure_sum import Terms
from grid.worker.port import Engine

DELTA = 1e-5
"""The chance with which the epsilon that an owner grants may be told wrong."""

ENVELOPE_LIFE = 24 * 3600.0
"""Seconds for which an envelope of a round may be opened."""


@dataclass(frozen=True)
class Means:
    """Who the node is, whom it can call, and what computes for it.

    `trainer` runs plans (torch), `folder` sums updates (numpy); `runs` is where files of runs are kept; `terms` are
    what its owner asks of secure sums, and with `sums_only` no update is seen but in one;
    analyses are answered for `least_rows` and more. With `dp_required` nothing is learned from a record but under
    differential privacy, at this epsilon for a whole run at most (at `DELTA`); 0: not asked.
    """

    identity: Identity
    node_id: str
    calls: Calls
    egress: Egress
    access: Access
    house: House
    associations: Associations
    peers: Peers
    catalogue: Catalogue
    permissions: Permissions
    requests: Requests
    gates: Gates
    prekeys: Prekeys
    records: RunRecords
    ledger: Ledger
    trainer: Engine
    folder: Engine
    runs: Path
    now: Callable[[], float]
    terms: Terms = field(default_factory=Terms)
    sums_only: bool = False
    dp_required: float = 0.0
    least_rows: int = LEAST_ROWS

    def header(self, kind: str, run: str, number: int, length: int = 0, audience: bytes = b"") -> Header:
        """The header of an envelope from this node."""
        now = self.now()
        return Header(
            sender=self.identity.public,
            audience=audience,
            kind=kind,
            run=run,
            round=number,
            created=int(now),
            expires=int(now + ENVELOPE_LIFE),
            length=length,
        )
