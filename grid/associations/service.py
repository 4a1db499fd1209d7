"""The associations of one daemon: asked for, proved, decided, told, ended."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Callable
from functools import partial

from grid.client.calls import Calls
from grid.client.egress import Egress
from grid.crypto.identity import Identity, public_from_id
from grid.protocol.association import (
    ACTIVE,
    ASKED,
    RECEIVED,
    Accepted,
    Association,
    Ended,
    Proposed,
    Refused,
    TimeOver,
    advance,
)
from grid.protocol.documents import read_document, sign_document
from grid.store import associations as rows
from grid.store.database import Database
from grid.store.schema import Transaction
from grid.wire import associations as wire
from grid.wire.documents import Signed
from grid.wire.problems import AssociationRefused, BadSignature, GridError, NotFound, OutOfTurn, TooManyRequests
from grid.wire.session import IDENTITY, Role

log = logging.getLogger(__name__)

OPEN = 7 * 86_400.0
"""Seconds for which a proposal waits for a decision."""
MOST = 100
"""Proposals of others that may wait at once."""


class Associations:
    """What a daemon of this `role`, called `name`, is associated with. `address`: where it answers.

    Every word between two daemons is signed for the other's key, and bound to one proposal: none of it serves twice,
    elsewhere, or for somebody else.
    """

    def __init__(
        self,
        database: Database,
        identity: Identity,
        role: Role,
        name: str,
        address: Callable[[], str],
        calls: Calls,
        egress: Egress,
        now: Callable[[], float],
    ) -> None:
        self._database, self._identity, self._role, self._name = database, identity, role, name
        self._address, self._calls, self._egress, self._now = address, calls, egress, now
        self._turn = asyncio.Lock()
        self._active = {a.peer for a in database.read_now(rows.all_of) if a.state == ACTIVE}

    def is_associated(self, key: str | None) -> bool:
        """Whether the daemon with this key (id) is associated with this one now."""
        return key is not None and key in self._active

    # --- what this daemon's people do -----------------------------------------------------------------

    async def ask(self, asked: wire.AskFor) -> wire.AssociationInfo:
        """Ask the daemon at an address.

        Raises:
            AddressRefused, Unreachable: it cannot be called.
            AssociationRefused: another key answers there, it is of the same kind as this one, or does not take it.
        """
        self._egress.check(asked.address)
        there = await self._calls.call(asked.address, IDENTITY)
        if asked.public_key not in {None, there.public_key}:
            raise AssociationRefused(f"{asked.address} holds another key than the one that was named")
        if there.role == self._role:
            raise AssociationRefused("a node is associated with a network, and a network with a node")
        now = self._now()
        proposal = wire.Proposal(
            self._identity.id,
            self._role,
            self._name,
            self._address(),
            there.public_key,
            secrets.token_urlsafe(24),
            now,
            now + OPEN,
        )
        signed = sign_document(self._identity, wire.PROPOSAL, proposal)
        name = there.node_id or asked.address
        begun = Association(
            digest_of(signed), there.public_key, name, there.role, asked.address, proposal.expires, ASKED
        )
        record, _ = advance(begun, Proposed(ours=True, at=now))
        await self._database.write(lambda c: rows.add(c, record, signed))
        await self._propose(record, signed)
        return told(await self._record(record.id))

    async def decide(self, id_: str, decision: wire.Decision) -> wire.AssociationInfo:
        """Accept or deny what another daemon asked. Raises NotFound, OutOfTurn."""
        record = await self._record(id_)
        if record.state == ASKED:
            raise OutOfTurn("it is for the other side to decide on what this one asked")
        at = self._now()
        after = await self._move(id_, Accepted(at) if decision.accept else Refused(decision.why, at))
        await self._tell(after, "accepted" if decision.accept else "denied", decision.why)
        return told(after)

    async def end(self, id_: str) -> wire.AssociationInfo:
        """End an association, or take back what was asked. Raises NotFound, OutOfTurn."""
        after = await self._move(id_, Ended("ended on this side", self._now()))
        await self._tell(after, "ended", "")
        return told(after)

    async def all(self) -> list[wire.AssociationInfo]:
        """All, those that changed last first; what this daemon asked is asked after."""
        for record in await self._database.read(rows.all_of):
            if record.state in {ASKED, RECEIVED} and record.expires <= self._now():
                await self._move(record.id, TimeOver(self._now()))
            elif record.state == ASKED:
                _, signed = await self._database.read(partial(rows.get, id_=record.id))
                try:
                    await self._propose(record, signed)
                except GridError as error:
                    log.info("association %s cannot be asked after: %s", record.id[:12], error.detail)
        return [told(record) for record in await self._database.read(rows.all_of)]

    async def active(self, id_: str) -> Association:
        """One that holds. Raises NotFound."""
        record = await self._record(id_)
        if record.state != ACTIVE:
            raise NotFound("there is no such association, or it does not hold now")
        return record

    async def statistics_of(self, id_: str) -> wire.Statistics:
        """The counts and use of an associated node. Raises NotFound, Unreachable, NotAllowed."""
        record = await self.active(id_)
        return await self._calls.call(record.address, wire.STATISTICS, peer=public_from_id(record.peer))

    # --- what the other side says -----------------------------------------------------------------------

    async def proposed(self, message: wire.Propose) -> wire.Said:
        """Another daemon asks, or asks after what it asked.

        Raises:
            AssociationRefused: it is meant for another, or its asker does not stand by it at the address in it.
            BadSignature, Replayed: it is not signed by its asker, or too old.
            AddressRefused, Unreachable: it cannot be called back there.
            TooManyRequests: too many wait.
        """
        signed = message.proposal
        id_ = digest_of(signed)
        try:
            record = await self._record(id_)
        except NotFound:
            record = await self._received(signed, id_)
        if record.peer != signed.signer:
            raise AssociationRefused("this is a proposal of this daemon's own")
        words = {ACTIVE: "accepted", RECEIVED: "pending"}
        word = words.get(record.state, "ended" if record.state == "ended" else "denied")
        return self._said(id_, word, record.peer, record.why)

    async def _received(self, signed: Signed, id_: str) -> Association:
        now = self._now()
        proposal = read_document(signed, wire.Proposal, wire.PROPOSAL, now=now)
        if proposal.asker != signed.signer:
            raise BadSignature("a proposal is signed by the daemon that asks")
        if proposal.asked != self._identity.id or proposal.role == self._role:
            raise AssociationRefused("this proposal is meant for another daemon")
        if not now - 60 <= proposal.expires <= now + OPEN + 60:
            raise AssociationRefused(f"a proposal is open for {OPEN / 86_400:.0f} days at most")
        waiting = [a for a in await self._database.read(rows.all_of) if a.state == RECEIVED]
        if len(waiting) >= MOST:
            raise TooManyRequests("too many proposals wait for this daemon's people", retry_after=3600.0)
        await self._stands_by(proposal, id_)
        begun = Association(
            id_, proposal.asker, proposal.name, proposal.role, proposal.address, proposal.expires, ASKED
        )
        record, _ = advance(begun, Proposed(ours=False, at=now))
        await self._database.write(lambda c: rows.add(c, record, signed))
        return await self._record(id_)

    async def _stands_by(self, proposal: wire.Proposal, id_: str) -> None:
        """The asker's key must answer at the asker's address that it proposed this."""
        self._egress.check(proposal.address)
        peer = public_from_id(proposal.asker)
        try:
            answer = await self._calls.call(proposal.address, wire.CHALLENGE, wire.Challenge(id_), peer=peer)
        except NotFound:
            raise AssociationRefused("who answers there did not propose this") from None
        word = self._read(answer, proposal.asker)
        if (word.proposal, word.word) != (id_, "mine"):
            raise AssociationRefused("who answers there did not propose this")

    async def challenged(self, asked: wire.Challenge) -> wire.Said:
        """Whether this daemon proposed something that still waits. Raises NotFound."""
        record = await self._record(asked.proposal)
        if record.state != ASKED:
            raise NotFound("this daemon proposed nothing of the kind")
        return self._said(record.id, "mine", record.peer)

    async def heard(self, message: wire.Said) -> None:
        """The other side decided, or ends it. Raises BadSignature, NotFound, OutOfTurn."""
        word = read_document(message.word, wire.Word, wire.WORD)
        record = await self._record(word.proposal)
        await self._take(record, self._read(message, record.peer))

    # --- both ---------------------------------------------------------------------------------------------

    async def _propose(self, record: Association, signed: Signed) -> None:
        """Ask, or ask after what was asked; what the other side says of it is taken."""
        answer = await self._calls.call(
            record.address, wire.PROPOSE, wire.Propose(signed), peer=public_from_id(record.peer)
        )
        word = self._read(answer, record.peer)
        if word.proposal == record.id:
            await self._take(record, word)

    async def _take(self, record: Association, word: wire.Word) -> None:
        if word.word in {"accepted", "denied"} and record.state == ASKED:
            at = self._now()
            await self._move(record.id, Accepted(at) if word.word == "accepted" else Refused(word.why, at))
        elif word.word == "ended" and record.state in {ASKED, RECEIVED, ACTIVE}:
            await self._move(record.id, Ended(word.why or "ended by the other side", self._now()))
        elif word.word not in {"pending", "mine"} and not (word.word == "accepted" and record.state == ACTIVE):
            raise OutOfTurn(f"{word.word} cannot be said of an association that is {record.state}")

    def _read(self, said: wire.Said, signer: str) -> wire.Word:
        word = read_document(said.word, wire.Word, wire.WORD, signer=signer)
        if word.to != self._identity.id:
            raise BadSignature("that was said to another daemon")
        return word

    def _said(self, id_: str, word: object, to: str, why: str = "") -> wire.Said:
        document = wire.Word(id_, word, to, self._now(), why)  # type: ignore[arg-type]
        return wire.Said(sign_document(self._identity, wire.WORD, document))

    async def _tell(self, record: Association, word: str, why: str) -> None:
        """Tell the other side; if it is away, it asks after what it asked."""
        try:
            message = self._said(record.id, word, record.peer, why)
            await self._calls.call(record.address, wire.TELL, message, peer=public_from_id(record.peer))
        except GridError as error:
            log.info("association %s: the other side was not told: %s", record.id[:12], error.detail)

    async def _record(self, id_: str) -> Association:
        return (await self._database.read(partial(rows.get, id_=id_)))[0]

    async def _move(self, id_: str, event: object) -> Association:
        def write(connection: Transaction) -> Association:
            before, _ = rows.get(connection, id_)
            after, _ = advance(before, event)
            rows.put(connection, after)
            return after

        async with self._turn:
            after = await self._database.write(write)
            self._active = {a.peer for a in await self._database.read(rows.all_of) if a.state == ACTIVE}
        return after


def digest_of(proposal: Signed) -> str:
    """What names an association: SHA-256 of the proposal and of who signed it."""
    return hashlib.sha256(proposal.signer.encode() + proposal.payload).hexdigest()


def told(record: Association) -> wire.AssociationInfo:
    """An association, as it is told."""
    return wire.AssociationInfo(
        id=record.id,
        peer=record.peer,
        name=record.name,
        role=record.role,  # type: ignore[arg-type]
        address=record.address,
        state=record.state.value,
        changed=record.changed,
        expires=record.expires,
        why=record.why,
    )
