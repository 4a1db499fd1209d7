"""The pins of a node: the peers it has met, by which key. One table, as `client.pins` is one file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from grid.client.pins import FRESH
from grid.node.records import as_events
from grid.protocol.pins import NOWHERE, Pin, met
from grid.protocol.transparency import Followed, read_revocation
from grid.store import events
from grid.store import keys as store
from grid.store import log as logs
from grid.store.database import Database
from grid.store.events import EventLog
from grid.store.schema import Transaction
from grid.wire.documents import Signed
from grid.wire.log import Revocation
from grid.wire.node import KnownPeer
from grid.wire.problems import KeyRevoked, NotFound
from grid.wire.runs import After, Events

NODE, ALARM, REVOKED = "node", "gateway-alarm", "key-revoked"
"""The topic of the event log about the node itself; what it says of a gateway that lied, and of a key's end."""


class Peers:
    """Who is known to this node by which key."""

    def __init__(self, database: Database, now: Callable[[], float], log: EventLog | None = None) -> None:
        self._database, self._now, self._log = database, now, log or EventLog(database)
        self._revoked = database.read_now(logs.revoked)

    async def meet(self, shown: Iterable[tuple[str, str]]) -> None:
        """Peers, as (name, key in wire form), are all known by these keys, or they are from now on; or none is.

        Raises:
            KeyChanged: one is known by another key.
            KeyRevoked: one's key was revoked.
        """
        pairs, now = tuple(shown), self._now()

        def judge(connection: Transaction) -> None:
            for name, public_key in pairs:
                self.refuse_revoked(public_key)
                before = store.pinned(connection, name)
                after = met(before, name, public_key, now)
                if before is None or now - before.last_seen > FRESH:
                    store.pin(connection, after)

        await self._database.write(judge)

    async def pin(self, name: str, public_key: str) -> None:
        """Know a name by this key from now on, whatever it was known by: its owner was asked."""
        now = self._now()
        known = Pin(name, public_key, now, now, "by hand")
        await self._database.write(lambda connection: store.pin(connection, known))

    async def forget(self, name: str) -> None:
        """Know a name no longer; of a gateway, neither its log. Raises NotFound if it was not known."""

        def forget(connection: Transaction) -> bool:
            followed = logs.forget(connection, name)
            return store.unpin(connection, name) or followed

        if not await self._database.write(forget):
            raise NotFound(f"{name} is not known here")

    async def known(self) -> tuple[KnownPeer, ...]:
        """Everybody who is known, in order of name."""
        rows = await self._database.read(store.pins)
        return tuple(KnownPeer(p.name, p.public_key, p.first_seen, p.last_seen, p.how) for p in rows)

    # --- keys that were revoked, and the logs that say so -------------------------------------------

    def refuse_revoked(self, public_key: str | None) -> None:
        """Raises KeyRevoked if a key (wire form) was revoked, as a log that this node follows has it."""
        if public_key in self._revoked:
            raise KeyRevoked(f"{public_key} was revoked: {self._revoked[public_key] or 'no reason given'}")

    async def revoke(self, signed: Signed) -> Revocation:
        """No longer believe a key that is trusted or known here, at its own word.

        Raises:
            BadRequest, BadSignature: it is nobody's revocation, or another's than the key's own.
            NotFound: the key is not known here, so nobody fills this node with strange ones.
        """
        said = read_revocation(signed)

        def write(connection: Transaction) -> None:
            if not store.knows(connection, said.public_key):
                raise NotFound(f"{said.public_key} is not known here")
            self._note_revoked(connection, {said.public_key: said.reason})

        await self._database.write(write)
        self._revoked = {said.public_key: said.reason, **self._revoked}
        return said

    async def events(self, after: After) -> Events:
        """What happened to the node itself after a cursor; waits up to `after.wait` seconds for the first of it."""
        return as_events(await self._log.wait(NODE, after.after, after.wait), after)

    async def tell(self, kind: str, data: dict[str, Any]) -> None:
        """Something happened to the node itself: those who hear its events hear of it."""
        await self._database.write(lambda connection: events.append(connection, NODE, kind, self._now(), data))

    async def followed(self, gateway: str) -> Followed | None:
        """The log of the gateway at an address, as far as it was followed."""
        return await self._database.read(lambda connection: logs.followed(connection, gateway)[0])

    async def follow(
        self, gateway: str, log: Followed, revoked: Mapping[str, str], moved: Mapping[str, str] = NOWHERE
    ) -> None:
        """The log was followed so far: these keys are revoked in what is new, and those are in the places of others."""

        def write(connection: Transaction) -> None:
            logs.keep(connection, gateway, log)
            self._note_revoked(connection, revoked)
            for old, new in moved.items():
                store.move_pins(connection, old, new)

        await self._database.write(write)
        self._revoked = {**revoked, **self._revoked}

    def _note_revoked(self, connection: Transaction, keys: Mapping[str, str]) -> None:
        """Keys are believed no more; the owner hears of each that is new."""
        logs.revoke(connection, keys)
        for key, why in keys.items():
            if key not in self._revoked:
                events.append(connection, NODE, REVOKED, self._now(), {"public-key": key, "why": why})

    async def alarm(self, gateway: str, log: Followed, why: str) -> bool:
        """A gateway is not to be believed from now on, until it is forgotten; whether that is new."""

        def write(connection: Transaction) -> bool:
            known, before = logs.followed(connection, gateway)
            logs.keep(connection, gateway, known or log, why)
            if not before:
                events.append(connection, NODE, ALARM, self._now(), {"gateway": gateway, "why": why})
            return not before

        return await self._database.write(write)

    async def heads(self) -> tuple[Signed, ...]:
        """The newest head of each log that is followed."""
        known = await self._database.read(logs.all_followed)
        return tuple(log.head for log in known if log.head is not None)

    def alarms(self) -> dict[str, str]:
        """The gateways that are not to be believed, and why."""
        return self._database.read_now(logs.alarms)
