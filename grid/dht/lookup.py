"""The search for those nearest to a key, as rules: whom to ask next, and when it is over.

There are no rounds: a peer that answers makes room for the next question at once, one that is late does so too, and
its answer is still welcome. Source: Maymounkov and Mazières 2002, "Kademlia", section 2.3, without its rounds.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable
from enum import Enum

from grid.crypto.errors import Malformed
from grid.crypto.identity import public_from_id
from grid.dht.ids import peer_key
from grid.dht.table import OF_GROUP, Contact, K
from grid.wire.documents import Signed

ALPHA = 8
"""Questions under way."""
CONVERGED = 3
"""When the nearest so many have answered, nobody knows of nearer ones: the rest need not wait for each other."""
ENOUGH = 3
"""Peers that hold what is looked for, of which no more are asked."""
REMEMBERED = 256
"""Peers that are considered; farther ones are passed over."""
HINTS = 3
"""Records of one peer that are considered: whoever tells first, with a forged one, must not hide the true one."""

Read = Callable[[Signed], Contact | None]
"""The contact that a record makes, or None for one that does not count, or that is not to be asked."""


class _State(Enum):
    UNREAD = 0  # told of; its record was not looked at
    NEW = 1
    ASKED = 2
    LATE = 3
    ANSWERED = 4
    DEAD = 5


class Lookup:
    """One search for `target` from the contacts that are known. It is over when `done`.

    What peers tell of others is read when its turn comes: most of it never does, and signatures cost.
    `enough`: end when so many said that they hold what is looked for, and nobody nearer is left to be asked.
    """

    def __init__(
        self,
        target: bytes,
        known: Iterable[Contact],
        read: Read,
        *,
        k: int = K,
        alpha: int = ALPHA,
        of_group: int = OF_GROUP,
        enough: int | None = None,
    ) -> None:
        self.target, self._at, self._read = target, int.from_bytes(target, "big"), read
        self._k, self._alpha, self._of_group, self._enough = k, alpha, of_group, enough
        self._order: list[tuple[int, bytes]] = []
        self._state: dict[bytes, _State] = {}
        self._contacts: dict[bytes, Contact] = {}
        self._hints: dict[bytes, list[Signed]] = {}
        self._holders: set[bytes] = set()
        self._mute: list[Contact] = []
        self.calls = 0
        for contact in known:
            if self._add(contact.id, _State.NEW):
                self._contacts[contact.id] = contact

    def learn(self, told: Iterable[Signed]) -> None:
        """Somebody told of these. Each is at the key that its owner's public key makes, whatever else it says."""
        for signed in told:
            try:
                key = peer_key(public_from_id(signed.signer))
            except Malformed:
                continue
            state = self._state.get(key)
            if state is _State.DEAD:
                self._revive(key, signed)
            elif state is _State.UNREAD and signed not in self._hints[key]:
                self._hints[key] = [*self._hints[key], signed][:HINTS]
            elif state is None and self._add(key, _State.UNREAD):
                self._hints[key] = [signed]

    def ask(self) -> list[Contact]:
        """Whom to ask now; they count as asked."""
        if self.done:
            return []
        # Of those that are asked now as many will be silent as were before: farther ones are asked in time.
        silent = self._count(_State.LATE) + self._count(_State.DEAD)
        shortlist = self._shortlist(self._k + min(silent, self._k))
        free = self._at_once(shortlist) - self._count(_State.ASKED)
        chosen = [each for each in shortlist if self._state[each.id] is _State.NEW][: max(free, 0)]
        for contact in chosen:
            self._state[contact.id] = _State.ASKED
        self.calls += len(chosen)
        return chosen

    def answered(self, contact: Contact, told: Iterable[Signed], *, holds: bool = False) -> None:
        """It answered, and told of others; `holds`: it has what is looked for."""
        self._state[contact.id] = _State.ANSWERED
        if holds:
            self._holders.add(contact.id)
        self.learn(told)

    def late(self, contact: Contact) -> None:
        """No answer yet: the next one need not wait for it."""
        if self._state[contact.id] is _State.ASKED:
            self._state[contact.id] = _State.LATE

    def failed(self, contact: Contact) -> None:
        """It is not there, or answers nonsense."""
        self._state[contact.id] = _State.DEAD

    def gave_up(self, contact: Contact) -> None:
        """It did not answer, and will not."""
        self.failed(contact)
        self._mute.append(contact)

    @property
    def done(self) -> bool:
        """Whether all that matter have answered, or enough of them hold what is looked for."""
        if self._enough is not None and len(self._holders) >= self._enough and self._none_nearer():
            return True
        states = {self._state[each.id] for each in self._shortlist()}
        if states & {_State.NEW, _State.ASKED}:
            return False
        return bool(states) or not self._count(_State.LATE)

    def has_converged(self) -> bool:
        """Whether the nearest have answered: who is near is known, if not yet who of them is there."""
        return self._all_answered(self._shortlist(CONVERGED))

    def nearest(self) -> list[Contact]:
        """Those that answered, nearest first: the `k` nearest of all, with few of one group."""
        return [each for each in self._shortlist() if self._state[each.id] is _State.ANSWERED]

    def silent(self) -> list[Contact]:
        """Those that were asked and did not answer in time."""
        return [*self._mute, *(self._contacts[key] for key, state in self._state.items() if state is _State.LATE)]

    # --- what is known --------------------------------------------------------------------------

    def _add(self, key: bytes, state: _State) -> bool:
        if key in self._state:
            return False
        insort(self._order, (int.from_bytes(key, "big") ^ self._at, key))
        self._state[key] = state
        if len(self._order) > REMEMBERED and self._state[self._order[-1][1]] in {_State.UNREAD, _State.NEW}:
            self._drop(self._order[-1][1])
        return key in self._state

    def _drop(self, key: bytes) -> None:
        """Know nothing of it: what is told of it next is as good as the first word."""
        del self._order[bisect_left(self._order, (int.from_bytes(key, "big") ^ self._at, key))]
        del self._state[key]
        self._hints.pop(key, None)
        self._contacts.pop(key, None)

    def _revive(self, key: bytes, signed: Signed) -> None:
        """It did not answer where it was: perhaps it moved."""
        there = self._contacts[key]
        if signed == there.held.signed:
            return
        moved = self._read(signed)
        if moved is not None and moved.held.said.version > there.held.said.version:
            self._state[key], self._contacts[key] = _State.NEW, moved

    def _open(self, key: bytes) -> bool:
        """Read what was told of a peer; whether any of it counts. The newest does."""
        found = [contact for signed in self._hints.pop(key) if (contact := self._read(signed)) is not None]
        if found:
            self._contacts[key] = max(found, key=lambda each: each.held.said.version)
            self._state[key] = _State.NEW
        return bool(found)

    # --- who matters ----------------------------------------------------------------------------

    def _at_once(self, shortlist: list[Contact]) -> int:
        """Questions under way: few as long as each answer brings nearer ones, then all that are left."""
        return 2 * self._k if self._all_answered(shortlist[:CONVERGED]) else self._alpha

    def _all_answered(self, some: list[Contact]) -> bool:
        return bool(some) and all(self._state[each.id] is _State.ANSWERED for each in some)

    def _none_nearer(self) -> bool:
        """Whether everybody nearer than the last holder that counts has answered or is late."""
        left, shortlist = self._enough or 0, self._shortlist()
        for contact in shortlist:
            if contact.id in self._holders:
                left -= 1
                if not left:
                    return True
            elif self._state[contact.id] in {_State.NEW, _State.ASKED}:
                return False
        return False

    def _shortlist(self, length: int | None = None) -> list[Contact]:
        """The nearest that are neither dead nor late, few of each group."""
        chosen, groups, nothing = list[Contact](), Counter[str](), list[bytes]()
        for _, key in self._order:
            state = self._state[key]
            if state is _State.DEAD or state is _State.LATE:
                continue
            if state is _State.UNREAD and not self._open(key):
                nothing.append(key)
                continue
            contact = self._contacts[key]
            if contact.group is not None:
                groups[contact.group] += 1
                if groups[contact.group] > self._of_group:
                    continue
            chosen.append(contact)
            if len(chosen) == (length or self._k):
                break
        for key in nothing:
            self._drop(key)
        return chosen

    def _count(self, state: _State) -> int:
        return sum(each is state for each in self._state.values())
