"""What a peer answers, without a socket: each call takes a message and the time, and gives the answer."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

import msgspec

from grid.crypto.identity import Identity, public_from_id
from grid.crypto.signing import verify
from grid.dht.ids import peer_key
from grid.dht.records import Network
from grid.dht.shelf import Shelf
from grid.dht.table import FRESH, OF_GROUP, Contact, Table
from grid.wire.dht import ALIVE, Find, Kept, Near, PeerRecord, Ping, Pong, Store
from grid.wire.documents import Signed
from grid.wire.problems import GridError, NotAMember

CALLERS = 256
"""Callers that wait to be called back; more are forgotten, and may call again."""


class Answers:
    """One peer's side of every call. What it is asked changes its shelf, never its table.

    `callers`: contacts whose word on themselves was good, to be called back before they enter the table.
    `refused`: how often what was refused, by reason.
    """

    def __init__(
        self,
        identity: Identity,
        network: Network,
        now: Callable[[], float],
        *,
        shelf: Shelf | None = None,
        of_group: int = OF_GROUP,
    ) -> None:
        self._identity, self.network, self._now = identity, network, now
        self.place, self.signer = peer_key(identity.public), identity.id
        self.table = Table(self.place, of_group=of_group)
        self.shelf = Shelf(network, self.place) if shelf is None else shelf
        self._record: Signed | None = None
        self.said: PeerRecord | None = None
        self.callers: deque[Contact] = deque(maxlen=CALLERS)
        self.refused: Counter[str] = Counter()
        self.stir: Callable[[], None] = lambda: None
        """What to do when somebody is to be called back."""

    @property
    def record(self) -> Signed | None:
        """What this peer says of itself; None for one that only asks. `said` is what is in it."""
        return self._record

    @record.setter
    def record(self, signed: Signed | None) -> None:
        self._record = signed
        self.said = None if signed is None else msgspec.msgpack.decode(signed.payload, type=PeerRecord)

    def find(self, find: Find) -> Near:
        """Who is near a key, and what is kept there."""
        now = self._now()
        asker = self._noted(find.sender, now)
        near = self.table.nearest(find.target, seen_after=now - FRESH)
        contacts = tuple(each.held.signed for each in near if each.id != asker)
        proof = b"" if find.nonce is None else self._prove(find.nonce)
        if find.want is None:
            return Near(contacts, now, proof=proof)
        records, after = self.shelf.page(find.target, find.want, asker or b"", now)
        return Near(contacts, now, tuple(records), self.shelf.kept(find.target), after, proof)

    def store(self, store: Store) -> Kept:
        """Keep a record. Raises what `Shelf.put` does."""
        try:
            newer = self.shelf.put(store.key, store.record, self._now())
        except GridError as error:
            self.refused[error.slug] += 1
            raise
        return Kept(newer is None, newer)

    def ping(self, ping: Ping) -> Pong:
        """Who answers here. Raises NotAMember before it is part of the network."""
        if self.record is None:
            raise NotAMember("this peer is not part of the network yet", retry_after=1.0)
        return Pong(self.record, self._prove(ping.nonce), self._now())

    def _noted(self, sender: Signed | None, now: float) -> bytes | None:
        """The key of who asks, if it says so; it is called back if there is room for it."""
        if sender is None:
            return None
        try:
            held = self.network.read(sender, now)
        except GridError as error:
            self.refused[error.slug] += 1
            return None
        contact = Contact(held)
        known = self.table.get(held.id)
        moved = known is not None and known.held.said.version < held.said.version
        if held.said.listens and not held.gone and (moved or self.table.has_room(contact)):
            self.callers.append(contact)
            self.stir()
        return held.id

    def _prove(self, nonce: bytes) -> bytes:
        return self._identity.sign(ALIVE, alive(self.network, nonce))


def alive(network: Network, nonce: bytes) -> bytes:
    """What is signed to show that one is there."""
    return network.name.encode() + b"\0" + nonce


def check_alive(network: Network, signed: Signed, nonce: bytes, proof: bytes) -> None:
    """Raises BadSignature (of `grid.crypto.errors`) unless the record's owner signed the nonce."""
    verify(public_from_id(signed.signer), ALIVE, alive(network, nonce), proof)
