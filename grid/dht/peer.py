"""One peer of the network: it looks up, publishes, joins, and looks after its contacts."""

from __future__ import annotations

import asyncio
import os
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple, Protocol

from grid.crypto import errors
from grid.crypto.identity import Identity
from grid.dht.answers import Answers, check_alive
from grid.dht.ids import distance
from grid.dht.lookup import ALPHA, ENOUGH, Lookup
from grid.dht.patience import Patience
from grid.dht.records import Held, Network
from grid.dht.shelf import Shelf, wanted
from grid.dht.table import OF_GROUP, Contact, K
from grid.dht.walk import walk
from grid.dht.whole import Whole
from grid.wire.dht import Find, Kept, Known, Near, PeerRecord, Ping, Pong, Store, Want
from grid.wire.documents import Signed
from grid.wire.problems import BadSignature, GridError

HARD = 1.5
"""Seconds after which a peer that did not answer is dead."""
REPAIRS = 64
"""Newer records that wait to be handed to peers that had older ones."""


PAGES = 100
"""Pages of one holder under one key, whatever it says of further ones."""
SLICE = 50
"""Records that are verified at a stretch: some milliseconds."""


class Transport(Protocol):
    """How calls reach a peer at an address. Each raises `GridError` where no answer comes that is one."""

    async def find(self, address: str, find: Find) -> Near:
        """`FIND`."""

    async def store(self, address: str, store: Store) -> Kept:
        """`STORE`."""

    async def ping(self, address: str, ping: Ping) -> Pong:
        """`PING`."""


class Collected(NamedTuple):
    """What a search found: records by owner, the highest count that a holder told, and what it took.

    `more`: holders that have further records, each with where its page ended.
    """

    records: dict[bytes, Held]
    kept: int
    calls: int
    more: list[tuple[Contact, bytes]]


class Peer:
    """Calls others on behalf of one identity. `answers` is its other side; both share table and shelf.

    `allowed` raises AddressRefused for an address that must not be called. A peer that does not listen, or a program
    that only searches, has no record, or one that says so, and enters no table.
    """

    def __init__(
        self,
        identity: Identity,
        network: Network,
        transport: Transport,
        *,
        now: Callable[[], float],
        allowed: Callable[[str], None] = lambda _: None,
        entropy: Callable[[int], bytes] = os.urandom,
        of_group: int = OF_GROUP,
        shelf: Shelf | None = None,
    ) -> None:
        self.answers = Answers(identity, network, now, shelf=shelf, of_group=of_group)
        self.network, self.table, self.shelf = network, self.answers.table, self.answers.shelf
        self._transport, self.now, self._allowed, self._entropy = transport, now, allowed, entropy
        self._of_group = of_group
        self._patience, self.whole = Patience(), Whole()
        self._repairs: deque[tuple[Contact, Store]] = deque(maxlen=REPAIRS)
        self.count: Counter[str] = Counter()

    # --- lookups --------------------------------------------------------------------------------

    async def nearest(self, key: bytes) -> Lookup:
        """Those nearest to a key that answer."""
        lookup = self._lookup(key, None)

        async def ask(contact: Contact) -> None:
            near = await self._find(contact, Find(key, self.answers.record))
            lookup.answered(contact, near.contacts)

        return await self._walk(lookup, ask)

    async def collect(self, key: bytes, want: Want, *, enough: int = ENOUGH) -> Collected:
        """The records under a key that are wanted, from as many holders, each verified, the newest of each owner.

        A holder gives one page: `rest` fetches the others.
        """
        lookup, found, told, more = self._lookup(key, enough), dict[bytes, Held](), 0, list[tuple[Contact, bytes]]()
        said = list[tuple[Contact, Held]]()

        async def ask(contact: Contact) -> None:
            nonlocal told
            near = await self._find(contact, Find(key, self.answers.record, want))
            records = [held for signed in near.records if (held := self._counts(key, signed, want))]
            lookup.answered(contact, near.contacts, holds=bool(records))
            if records:
                told = max(told, near.kept)
                said.extend((contact, held) for held in records)
            if records and near.after is not None:
                more.append((contact, near.after))

        for held in self._own(key, want):
            _newest(found, held)
        await self._walk(lookup, ask)
        for _, held in said:
            _newest(found, held)
        self._repair(key, said, found)
        return Collected(found, max(told, len(found)), lookup.calls, more)

    async def rest(self, key: bytes, want: Want, first: Collected) -> dict[bytes, Held]:
        """All records under a key: every further page of the holders that a search found."""
        found = dict(first.records)

        async def drain(contact: Contact, after: bytes | None) -> None:
            for _ in range(PAGES):
                if after is None:
                    return
                page = Find(key, self.answers.record, Want(want.all, want.any, want.none, want.limit, after))
                async with asyncio.timeout(HARD):
                    near = await self._patience.call(contact, self._transport.find(contact.address, page))
                for number, signed in enumerate(near.records):
                    if number % SLICE == 0:
                        await asyncio.sleep(0)  # verifying does not keep others waiting
                    if (held := self._counts(key, signed, want)) is not None:
                        _newest(found, held)
                after = near.after

        drained = await asyncio.gather(*(drain(*each) for each in first.more), return_exceptions=True)
        for result in drained:
            if result is not None and not isinstance(result, (GridError, TimeoutError)):
                raise result  # a holder that went is one of several; what was not expected is not hidden
        return found

    # --- publishing -----------------------------------------------------------------------------

    async def publish(self, key: bytes, signed: Signed) -> int:
        """Have a record kept by those nearest to a key; how many keep it, this peer among them.

        Once it is clear who is near, the record itself is the question: who keeps it is there.
        """
        lookup, store = self._lookup(key, None), Store(key, signed)
        kept, sent = set[bytes](), dict[bytes, asyncio.Task[bool]]()
        async with asyncio.TaskGroup() as group:

            def hand_out() -> None:
                for each in lookup.nearest():
                    if each.id not in sent and each.id not in kept:
                        sent[each.id] = group.create_task(self._store(each, store))

            async def ask(contact: Contact) -> None:
                if lookup.has_converged():
                    if (await self._transport.store(contact.address, store)).kept:
                        kept.add(contact.id)
                    lookup.answered(contact, ())
                else:
                    near = await self._find(contact, Find(key, self.answers.record))
                    lookup.answered(contact, near.contacts)
                if lookup.has_converged():
                    hand_out()

            await self._walk(lookup, ask)
            hand_out()
        kept.update(owner for owner, task in sent.items() if task.result())
        return len(kept) + self._keep(key, signed, lookup.nearest())

    async def announce(self, signed: Signed, keys: Iterable[bytes]) -> int:
        """Have a record kept under several keys; how many keep it under the key where fewest do."""
        return min(await asyncio.gather(*(self.publish(key, signed) for key in keys)), default=0)

    # --- joining, and staying -------------------------------------------------------------------

    async def bootstrap(self, addresses: Iterable[str]) -> int:
        """Meet the peers at some addresses, and those near this one; how many of the addresses answered."""
        met = await asyncio.gather(*(self.meet(address) for address in addresses))
        if any(met):
            await self.refresh()
        return sum(contact is not None for contact in met)

    async def meet(self, address: str, expected: bytes | None = None) -> Contact | None:
        """Call an address and have whoever answers prove its key; None if nobody does, or not who was expected."""
        nonce = self._entropy(16)
        try:
            self._allowed(address)
            async with asyncio.timeout(HARD):
                pong = await self._transport.ping(address, Ping(nonce))
            contact = self._proved(pong.record, nonce, pong.proof)
        except (GridError, TimeoutError):
            self.count["unmet"] += 1
            return None
        if expected not in {None, contact.id} or not contact.held.said.listens:
            return None
        self._patience.answered(contact)
        self._heard(contact)
        return contact

    async def refresh(self) -> None:
        """Look for peers near this one, and far from it."""
        await asyncio.gather(*(self.nearest(key) for key in (self.answers.place, *self._far_keys())))

    async def tend(self) -> None:
        """What is to be done now: callers called back, silent contacts asked, older records replaced."""
        callers = {contact.id: contact for contact in self.answers.callers}
        self.answers.callers.clear()
        some = [*callers.values()][:K]
        stale = [each for each in self.table.stalest(self.now() - 300.0) if each.id not in callers][:K]
        await asyncio.gather(*(self._look_after(contact) for contact in [*some, *stale]))
        repairs, self._repairs = list(self._repairs), deque(maxlen=REPAIRS)
        await asyncio.gather(*(self._store(contact, store) for contact, store in repairs))

    async def _look_after(self, contact: Contact) -> None:
        if await self.meet(contact.address, contact.id) is None:
            self._lost(contact)

    # --- one call -------------------------------------------------------------------------------

    def _lookup(self, key: bytes, enough: int | None) -> Lookup:
        known = [each for each in self.table.nearest(key, 2 * K) if self._patience.may_ask(each.id, self.now())]
        return Lookup(key, known, self._read, alpha=ALPHA, of_group=self._of_group, enough=enough)

    async def _walk(self, lookup: Lookup, ask: Callable[[Contact], Awaitable[None]]) -> Lookup:
        self.count["lookups"] += 1
        await walk(lookup, ask, soft=self._patience.soft, hard=HARD)
        self.count["calls"] += lookup.calls
        for contact in lookup.silent():
            self._fail(contact)
        return lookup

    async def _find(self, contact: Contact, find: Find) -> Near:
        """Ask one peer. One that may become a contact proves itself by the way."""
        nonce = self._entropy(16) if self.table.has_room(contact) else None
        find = Find(find.target, find.sender, find.want, nonce)
        try:
            near = await self._patience.call(contact, self._transport.find(contact.address, find))
            if nonce is not None:
                contact = self._proved(contact.held.signed, nonce, near.proof)
            if nonce is not None or self.table.get(contact.id) is not None:
                self._heard(contact)
        except GridError:  # silence is looked at when the lookup is over
            self._fail(contact)
            raise
        return near

    async def _store(self, contact: Contact, store: Store) -> bool:
        try:
            async with asyncio.timeout(HARD):
                kept = await self._transport.store(contact.address, store)
        except (GridError, TimeoutError):
            self.count["stores-failed"] += 1
            return False
        return kept.kept

    def _fail(self, contact: Contact) -> None:
        if self._patience.failed(contact, self.now()) > 1:
            self._lost(contact)

    def _heard(self, contact: Contact) -> None:
        self.table.heard(contact, self.now())
        self.whole.heard(contact.id)

    def _lost(self, contact: Contact) -> None:
        if self.table.get(contact.id) is not None:
            self.whole.lost(contact.id, contact.address, self.now())
        self.table.lost(contact)

    # --- what is believed -----------------------------------------------------------------------

    def _read(self, signed: Signed) -> Contact | None:
        """The contact that a record makes, if it may be asked now."""
        try:
            held = self.network.read(signed, self.now())
            if held.gone or not held.said.listens or held.id == self.answers.place:
                return None
            self._allowed(held.said.node_address)
        except GridError as error:
            self.answers.refused[error.slug] += 1
            return None
        return Contact(held) if self._patience.may_ask(held.id, self.now()) else None

    def _proved(self, signed: Signed, nonce: bytes, proof: bytes) -> Contact:
        held = self.network.read(signed, self.now())
        try:
            check_alive(self.network, signed, nonce, proof)
        except (errors.BadSignature, errors.Malformed) as error:
            raise BadSignature(str(error)) from None
        return Contact(held)

    def _counts(self, key: bytes, signed: Signed, want: Want) -> Held | None:
        """A record that a holder gave, if it counts, belongs there, and was wanted."""
        try:
            held = self.network.read(signed, self.now())
        except GridError as error:
            self.answers.refused[error.slug] += 1
            return None
        belongs = key in self.network.keys(held.said, signed.signer)
        if not belongs or held.gone or held.said.expires <= self.now() or not wanted(held, want):
            self.answers.refused["foreign"] += 1
            return None
        return held

    # --- this peer as one of the holders --------------------------------------------------------

    def _own(self, key: bytes, want: Want) -> list[Held]:
        records, _ = self.shelf.page(key, want, b"", self.now())
        return [held for signed in records if (held := self._counts(key, signed, want)) is not None]

    def _keep(self, key: bytes, signed: Signed, others: list[Contact]) -> bool:
        """Keep it here too, if this peer is one of those nearest."""
        if self.answers.said is None or not self.answers.said.listens:
            return False
        mine = distance(key, self.answers.place)
        if len(others) >= K and distance(key, others[-1].id) < mine:
            return False
        try:
            return self.shelf.put(key, signed, self.now()) is None
        except GridError as error:
            self.answers.refused[error.slug] += 1
            return False

    def address(self) -> str | None:
        """Where this peer says that it answers, if it says so."""
        return None if self.answers.said is None else self.answers.said.node_address

    def others(self) -> list[PeerRecord]:
        """What the nodes that this peer knows of say of themselves: its contacts, and those whose records it keeps."""
        known = {held.id: held.said for held in (*(contact.held for contact in self.table), *self.shelf.records())}
        known.pop(self.answers.place, None)
        return list(known.values())

    def known(self) -> Known:
        """What this peer knows of the network, for its owner."""
        return Known(
            network=self.network.name,
            key=self.answers.signer,
            contacts=tuple(contact.address for contact in self.table),
            records=len(self.shelf),
            bytes=self.shelf.size,
            silent=self.whole.silent,
            split_since=self.whole.since,
            counted=dict(self.count),
            refused=dict(self.answers.refused),
        )

    def _repair(self, key: bytes, said: list[tuple[Contact, Held]], newest: dict[bytes, Held]) -> None:
        for contact, held in said:
            if (newer := newest[held.id]).said.version > held.said.version:
                self._repairs.append((contact, Store(key, newer.signed)))

    def _far_keys(self) -> list[bytes]:
        """Keys in the four halves of the world that this peer is farthest from."""
        place = int.from_bytes(self.answers.place, "big")
        return [(place ^ (1 << (159 - bit))).to_bytes(20, "big") for bit in range(4)]


def _newest(found: dict[bytes, Held], held: Held) -> None:
    here = found.get(held.id)
    if here is None or here.said.version < held.said.version:
        found[held.id] = held
