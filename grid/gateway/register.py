"""Membership as leases: who is listed, in which state, until when.

Who may hold an id:

* A signed member's id belongs to its key. Nobody else is listed under it while it is a member, online or
  not, and for `RESERVED` seconds after it left or was forgotten.
* An unsigned id (the RFC's two fields) proves nothing: it holds against other unsigned joins while it is not
  offline, and gives way to a signed one.

Members that are joining, online, busy or suspect are found; offline ones are not (`LISTED` in
`grid.protocol.membership`, whose machine decides on every state here). A joining member is found because
the RFC's nodes expect to be as soon as they joined.

A join is on disk before it is answered. A renewal is kept in memory and saved with others: a
gateway that starts again gives those it had listed a new lease, in which to be heard from.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from msgspec.structs import replace

from grid.gateway.claim import Claim, read_claim
from grid.gateway.roll import Listed, Roll
from grid.gateway.schedule import Schedule
from grid.protocol import membership
from grid.protocol.membership import LISTED, OFFLINE, SUSPECT, Forget, Member
from grid.store.members import Reserved
from grid.wire.directory import Done, Join, Joined, Leave, Renew, Renewed
from grid.wire.problems import (
    Full,
    NodeIdTaken,
    NotAllowed,
    NotAMember,
    NotAuthenticated,
    StaleRecord,
    UnsignedJoinRefused,
)

log = logging.getLogger(__name__)

LEASE = 90.0
"""Seconds."""
RESERVED = 30 * 24 * 3600.0
"""Seconds for which a key keeps its id after its membership."""
TICK = 5.0
"""Seconds between looks at the leases, and between batches of renewals saved."""

TAKEN = "This ID has already been registered."  # the RFC's words


class MemberStore(Protocol):
    """Where members survive a restart. What a call was given is durable when it returns."""

    async def load(self) -> tuple[list[tuple[Member, Claim]], list[Reserved]]:
        """All members and all reserved ids."""

    async def put(self, member: Member, claim: Claim) -> None:
        """A node joined: it replaces whatever had its id."""

    async def save(self, members: list[Member], reserved: list[Reserved], gone: list[str]) -> None:
        """New states of known members; ids that are now only reserved; ids that are free."""


class Register:
    """Lists nodes for as long as they renew their lease or answer checks.

    `check_address` raises AddressRefused for an address that the gateway must not call, `refuse` KeyRevoked for a
    key that may not be listed; `succeeds` says whether a key came into the place of another. `capacity` bounds members
    and reserved ids together.
    """

    def __init__(
        self,
        store: MemberStore,
        check_address: Callable[[str], None],
        now: Callable[[], float],
        *,
        allow_unsigned: bool = False,
        lease: float = LEASE,
        capacity: int = 100_000,
        refuse: Callable[[str], None] = lambda _: None,
        succeeds: Callable[[str, str], bool] = lambda new, old: new == old,
    ) -> None:
        self._refuse, self._succeeds = refuse, succeeds
        self._store, self._check_address, self._now = store, check_address, now
        self._allow_unsigned, self._lease, self._capacity = allow_unsigned, lease, capacity
        self.roll = Roll()
        self._fresh: set[str] = set()  # to be checked soon
        self.arrived = asyncio.Event()  # there are some
        self.stirred = asyncio.Event()  # somebody is listed: the loops have something to do
        self._reserved: dict[str, Reserved] = {}
        self._due, self._changed = Schedule(), set[str]()

    async def load(self) -> None:
        """Take up the members of the last run. Those that were listed get a lease in which to be heard from."""
        members, reserved = await self._store.load()
        now = self._now()
        for member, claim in members:
            if member.state in LISTED:  # it was the gateway that was away, not they
                member = replace(
                    member, state=SUSPECT, lease_ends=max(member.lease_ends, now + self._lease), failures=0
                )
            self._place(Listed(member, claim))
            self._fresh.add(member.node)
            self.arrived.set()
        for each in reserved:
            self._reserve(each)

    # --- what members do ----------------------------------------------------------------------

    async def join(self, message: Join) -> Joined:
        """List a node, durably.

        Raises:
            UnsignedJoinRefused, KeyRevoked, NodeIdTaken, StaleRecord, AddressRefused, Full: it may not be listed so.
            BadSignature, BadRequest, Replayed: its record does not hold.
        """
        claim = read_claim(message, self._now())
        self._admit(claim)
        self._check_address(claim.node_address)
        before = self.roll.get(claim.node_id)
        listed = self._list(claim, before)
        if before and before.found and before.claim == claim:  # an RFC node joined again: a renewal
            self._changed.add(claim.node_id)
        else:
            await self._make_durable(listed, before)
        member = listed.member
        return Joined("Successfully Connected!", member.state.value, self._span(claim), member.verified)

    def renew(self, message: Renew, caller: str | None) -> Renewed:
        """Extend the lease of the member whose key is `caller`.

        Raises:
            NotAMember: its id is not listed, or not under this key, or its record has expired: join again.
        """
        listed = self.roll.get(message.node_id)
        if not listed or not caller or listed.claim.signer != caller:
            raise NotAMember(f"{message.node_id} is not listed under this key")
        lease = self._span(listed.claim)
        if lease <= 0:
            raise NotAMember(f"the record of {message.node_id} has expired")
        listed.renewed = True
        self._advance(listed, membership.Renewed(self._now(), lease, message.busy))
        return Renewed(listed.member.state.value, lease)

    async def leave(self, message: Leave, caller: str | None, *, owner: bool) -> Done:
        """Take a node off the list; a signed one only at the word of its own key, or of the gateway's owner.

        Raises:
            NotAMember: not listed with this id and address.
            NotAuthenticated, NotAllowed, UnsignedJoinRefused: not at this caller's word.
        """
        listed = self.roll.get(message.node_id)
        if not listed or listed.claim.node_address != message.node_address:
            raise NotAMember(f"{message.node_id} is not listed with this address")
        if not owner:
            self._may_leave(listed.claim, caller)
        self._advance(listed, membership.Left())
        await self.flush()
        return Done(f"{message.node_id} has left")

    async def expel(self, public_key: str) -> None:
        """Take whatever is listed under a key off the list: it was revoked."""
        for listed in [one for one in self.roll if one.claim.signer == public_key]:
            self._advance(listed, membership.Left())
        await self.flush()

    # --- checks -------------------------------------------------------------------------------

    def newcomers(self) -> set[str]:
        """Ids that should be checked soon, each told once: who joined, and all after a restart."""
        self.arrived.clear()
        fresh, self._fresh = self._fresh, set()
        return fresh

    def answered(self, listed: Listed, latency: float, *, busy: bool) -> None:
        """A member answered a check after `latency` seconds: as good as a renewal."""
        listed.reached, listed.misses = True, 0
        lease = self._span(listed.claim)
        if lease > 0:  # no check outlives the record that the node signed
            self._advance(listed, membership.Answered(self._now(), latency, busy, lease))

    def silent(self, listed: Listed) -> None:
        """A member did not answer a check.

        A signed one that never answered any may be behind a NAT: its lease alone speaks for it.
        """
        listed.misses += 1
        if listed.reached or not listed.member.verified:
            self._advance(listed, membership.Silent(self._now()))

    # --- time ---------------------------------------------------------------------------------

    async def tend(self) -> None:
        """End leases and save renewals, until cancelled. With nobody listed it does nothing at all."""
        while True:
            await self.stirred.wait()
            await asyncio.sleep(TICK)
            self.lapse()
            try:
                await self.flush()
            except Exception:  # the disk may be full: members stay listed, and the next flush tries again
                log.exception("renewals could not be saved")
                continue
            if not len(self.roll):
                self.stirred.clear()

    def lapse(self) -> None:
        """Let time act: leases end, those long gone are forgotten, reserved ids become free."""
        now = self._now()
        for node_id in self._due.take(now):
            if listed := self.roll.get(node_id):
                ended = membership.GraceEnded if listed.member.state == OFFLINE else membership.LeaseEnded
                self._advance(listed, ended(now))
            elif self._reserved.pop(node_id, None):
                self._changed.add(node_id)

    async def flush(self) -> None:
        """Save what changed since the last time."""
        if not self._changed:
            return
        changed, self._changed = self._changed, set()
        members = [listed.member for node_id in changed if (listed := self.roll.get(node_id))]
        reserved = [self._reserved[node_id] for node_id in changed & self._reserved.keys()]
        gone = [node_id for node_id in changed if node_id not in self._reserved and not self.roll.get(node_id)]
        try:
            await self._store.save(members, reserved, gone)
        except BaseException:
            self._changed |= changed
            raise

    # --- inside -------------------------------------------------------------------------------

    def _admit(self, claim: Claim) -> None:
        """Refuse whoever may not have this id."""
        if claim.record is None and not self._allow_unsigned:
            raise UnsignedJoinRefused
        if claim.signer:
            self._refuse(claim.signer)
        listed, reserved = self.roll.get(claim.node_id), self._reserved.get(claim.node_id)
        if listed and listed.claim.signer:
            self._same_key(claim, listed.claim.signer, listed.claim.version)
        elif listed and claim.record is None:
            if claim.node_address != listed.claim.node_address and listed.found:
                raise NodeIdTaken(TAKEN)
        elif reserved:
            self._same_key(claim, reserved.signer, reserved.version)
        elif not listed and len(self.roll) + len(self._reserved) >= self._capacity:
            raise Full("this gateway lists as many nodes as it may")

    def _same_key(self, claim: Claim, signer: str, version: int) -> None:
        if claim.signer != signer and not (claim.signer and self._succeeds(claim.signer, signer)):
            raise NodeIdTaken(TAKEN)
        if claim.version <= version:
            raise StaleRecord("this record, or a newer one, was already used: sign one with a higher version")

    def _list(self, claim: Claim, before: Listed | None) -> Listed:
        """The member after its join, on the roll."""
        again = before is not None and before.claim.signer == claim.signer
        stayed = before is not None and before.claim.node_address == claim.node_address
        if before and again and (stayed or claim.record):
            member, _ = membership.advance(before.member, membership.Joined(self._now(), self._span(claim)))
        else:
            verified = claim.record is not None
            member = membership.joined(claim.node_id, self._now(), self._span(claim), verified=verified)
        if not (before and before.found and stayed):  # else its next check is soon enough
            self._fresh.add(claim.node_id)
            self.arrived.set()
        listed = Listed(member, claim, reached=bool(before and again and stayed and before.reached))
        self._place(listed)
        return listed

    async def _make_durable(self, listed: Listed, before: Listed | None) -> None:
        node_id = listed.claim.node_id
        try:
            await self._store.put(listed.member, listed.claim)
        except Exception:  # a caller who hangs up meanwhile undoes nothing: the row is on its way
            if self.roll.get(node_id) is listed:  # as if it had never come
                self.roll.place(before) if before else self.roll.remove(node_id)
            raise
        self._reserved.pop(node_id, None)

    def _span(self, claim: Claim) -> float:
        """Seconds for which a lease may run from now."""
        return min(self._lease, claim.expires - self._now())

    def _may_leave(self, claim: Claim, caller: str | None) -> None:
        if claim.signer is None:
            if not self._allow_unsigned:
                raise UnsignedJoinRefused("this gateway takes nothing unsigned")
        elif caller is None:
            raise NotAuthenticated(f"{claim.node_id} is a signed member: sign in with its key")
        elif caller != claim.signer:
            raise NotAllowed(f"only its own key and the gateway's owner may take {claim.node_id} off the list")

    def _place(self, listed: Listed) -> None:
        self.roll.place(listed)
        self._due.put(listed.claim.node_id, membership.due(listed.member))
        self.stirred.set()

    def _advance(self, listed: Listed, event: object) -> None:
        """Move a member by one event, and carry out what follows."""
        member, effects = membership.advance(listed.member, event)
        self.roll.update(listed, member)
        self._changed.add(member.node)
        self._due.no_later(member.node, membership.due(member))
        if Forget() in effects:
            self._forget(listed.claim)

    def _forget(self, claim: Claim) -> None:
        self.roll.remove(claim.node_id)
        self._fresh.discard(claim.node_id)
        self._due.drop(claim.node_id)
        if claim.signer:  # longer than any record that could list it again
            until = max(claim.expires, self._now() + RESERVED)
            self._reserve(Reserved(claim.node_id, claim.signer, claim.version, until))

    def _reserve(self, reserved: Reserved) -> None:
        self._reserved[reserved.node_id] = reserved
        self._due.put(reserved.node_id, reserved.until)
