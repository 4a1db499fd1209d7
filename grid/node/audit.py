"""Follows the log of a gateway: that it only grows, and that this node's name is in it under this node's key alone."""

from __future__ import annotations

import logging
import secrets

from grid.client.calls import Calls
from grid.client.directory import GatewayDirectory
from grid.crypto.identity import public_from_id
from grid.node.peers import Peers
from grid.protocol.documents import read_document
from grid.protocol.transparency import (
    Followed,
    follow,
    moved,
    no_foreign_key,
    read_entry,
    read_head,
    revoked,
    rotations_in,
)
from grid.wire.directory import CONNECTED_NODES, NODE_RECORD, NodeRecord
from grid.wire.log import LOG_ENTRIES, LOG_HEAD, LogEntry, Span
from grid.wire.node import LogSeen
from grid.wire.problems import GridError, KeyForeign, LogForked
from grid.wire.session import IDENTITY

log = logging.getLogger(__name__)

WITNESS = 100
"""Looks, the second of which asks another member, too: about one an hour."""

PAGE = 1000
"""Entries fetched at once."""


class Audit:
    """One gateway's log, as far as this node followed it: kept on disk, so that a restart forgets no history.

    What was found wrong is an alarm until the owner forgets the gateway (`grid-node peer forget ADDRESS`).
    """

    def __init__(self, calls: Calls, directory: GatewayDirectory, peers: Peers, node_id: str, public_key: str) -> None:
        self._calls, self.directory, self._peers = calls, directory, peers
        self._gateway = directory.address.rstrip("/")
        self._node_id, self._public_key = node_id, public_key
        self._looks = 0

    async def tend(self) -> None:
        """Look, and now and then ask another member. Raises as `look` does."""
        await self.look()
        if self._looks % WITNESS == 1:
            await self.ask_another()
        self._looks += 1

    async def report(self, witness: str | None) -> LogSeen:
        """Look now, ask that member or whom chance picks, and say what came of it."""
        asked, wrong = "", ""
        if await self._peers.followed(self._gateway) is None:
            return LogSeen(self._gateway, 0, wrong="this node has not been listed there yet")
        try:
            await self.look()
            asked = await self.ask_another(witness)
        except GridError as error:
            wrong = error.detail
        known = await self._peers.followed(self._gateway)
        wrong = wrong or self._peers.alarms().get(self._gateway, "")
        return LogSeen(self._gateway, known.size if known is not None else 0, asked, wrong)

    async def ask_another(self, witness: str | None = None) -> str:
        """Compare the log with what the `witness`, or whom chance picks, was shown of it; its name, if it answered.

        Raises:
            LogForked: that one is shown another log, as the alarm says from now on.
        """
        name = witness or await self._picked()
        if not name:
            return ""
        try:
            member = await self.directory.resolve(name)
            if member.record is None:
                return ""
            address = read_document(member.record, NodeRecord, NODE_RECORD).node_address
            compared = await self.directory.witness(address, public_from_id(member.record.signer))
        except LogForked as error:
            await self._raise_alarm(f"as {name} was shown it, too: {error.detail}")
            raise
        except GridError as error:  # it may be away, or not to be called from here
            log.info("%s was not asked for its view of %s: %s", name, self._gateway, error.detail)
            return ""
        return name if compared else ""

    async def _picked(self) -> str:
        listed = await self._calls.call(self._gateway, CONNECTED_NODES)
        others = sorted({*listed.grid_nodes} - {self._node_id, *listed.unverified})
        return secrets.choice(others) if others else ""

    async def look(self) -> None:
        """Follow the log to its present head; one small call where nothing is new.

        Raises:
            KeyChanged: another gateway answers at its address.
            LogForked, KeyForeign: it is not to be believed, as the alarm says from now on.
            Unreachable, and what else a call may raise.
        """
        known = await self._peers.followed(self._gateway) or await self._met()
        try:
            after, entries = await self._followed(known)
            if after != known:
                await self._peers.follow(self._gateway, after, revoked(entries), moved(rotations_in(entries)))
            self._judge(entries, first=known.size == 0)
        except (LogForked, KeyForeign) as error:
            await self._raise_alarm(error.detail)
            raise

    async def _raise_alarm(self, why: str) -> None:
        known = await self._peers.followed(self._gateway) or await self._met()
        if await self._peers.alarm(self._gateway, known, why):
            log.error("DO NOT BELIEVE the gateway %s: %s", self._gateway, why)

    async def _met(self) -> Followed:
        """The gateway at its address, by the key that it is known by."""
        answers = await self._calls.call(self._gateway, IDENTITY)
        await self._peers.meet([(self._gateway, answers.public_key)])
        return Followed(answers.public_key)

    async def _followed(self, known: Followed) -> tuple[Followed, list[LogEntry]]:
        head = await self._calls.call(self._gateway, LOG_HEAD)
        said = read_head(head, self._gateway, known.gateway_key)
        entries: list[bytes] = []
        while known.size + len(entries) < said.size:
            span = Span(known.size + len(entries), min(PAGE, said.size - known.size - len(entries)))
            page = (await self._calls.call(self._gateway, LOG_ENTRIES, query=span)).entries
            if not 0 < len(page) <= span.limit:
                raise LogForked(f"{self._gateway} signed a log of {said.size} entries and does not show them all")
            entries += page
        return follow(known, head, entries, self._gateway), [read_entry(entry) for entry in entries]

    def _judge(self, entries: list[LogEntry], *, first: bool) -> None:
        if first:  # the name may have been another's before
            mine = [entry for entry in entries if entry.kind == "member" and entry.node_id == self._node_id]
            if not mine:
                raise KeyForeign(f"{self._gateway} lists {self._node_id}, and its log does not say so")
            entries = mine[-1:]
        no_foreign_key(entries, self._node_id, self._public_key, self._gateway)
