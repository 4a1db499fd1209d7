"""A coordinator's side of secure sums: it passes on what nodes tell each other, and lifts the masks of the sum alone.

It keeps what was said in memory: a coordinator that is restarted holds the round anew, with other keys.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from grid.crypto import masks, shares
from grid.crypto.errors import Malformed
from grid.learning.strategy import Masked
from grid.node.clipping import Clipping
from grid.node.lift import Lift, Place, survivors_digest, transcript_of
from grid.protocol import summing as rules
from grid.protocol.documents import read_document
from grid.protocol.neighbours import Circle
from grid.wire.documents import Signed
from grid.wire.problems import BadRequest, NoParticipants, RoundClosed, SumRefused
from grid.wire.runs import Task
from grid.wire.sums import (
    KEYS,
    SURVIVORS,
    WAIT,
    Consent,
    Consents,
    Dealt,
    Revealed,
    Roster,
    Shares,
    SumKeys,
    Survivors,
)

D = TypeVar("D", SumKeys, Consent)
Word = TypeVar("Word")
T = TypeVar("T", str, bytes)

STEP = 30.0
"""Seconds that a step waits for those who do not answer."""

SOON = 2.0
"""Seconds that it waits for the last ones once enough have answered."""

TRIES = 256
"""Sets of shares that are tried where some of them are wrong."""


@dataclass
class _Said:
    """What the nodes of one sum said, by their keys."""

    keys: dict[str, Signed] = field(default_factory=dict)
    dealt: dict[str, dict[str, bytes]] = field(default_factory=dict)
    consents: dict[str, Signed] = field(default_factory=dict)
    revealed: dict[str, Revealed] = field(default_factory=dict)


class _Agreed(NamedTuple):
    """What the roster of a sum agreed on: keys by node, the transcript's digest, and who holds whose shares."""

    told: dict[str, SumKeys]
    transcript: bytes
    circle: Circle


class Summing:
    """The sums of one run, one round at a time. Every question is answered when its step is over, or with "not yet".

    `clipping` is the clip of each, where they are noised.
    """

    def __init__(self, task: Task, rule: Masked, numbers: int) -> None:
        self._task, self._numbers, self.clipping = task, numbers, Clipping(rule)
        self._number, self._model, self.id = 0, "", 0
        self._sum = rules.Sum(frozenset())
        self._said = _Said()
        self._agreed: _Agreed | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()

    def begin(self, number: int, invited: frozenset[str], model: str) -> None:
        """A round is open; `model` is the SHA-256 of what its nodes are sent. The sum gets an `id` of its own."""
        self._number, self._model, self.id = number, model, secrets.randbelow(2**31)
        self._sum, self._said, self._agreed = rules.Sum(invited), _Said(), None
        self._wait_for_step()

    def lost(self, node: str) -> None:
        """A node will not answer any more."""
        if rules.SUM.takes(self._sum, rules.Gone) and node in self._sum.asked:
            self._apply(rules.Gone(node))

    def close(self) -> None:
        """Nobody is waited for any more."""
        self._number = 0
        self._ring()
        if self._timer is not None:
            self._timer.cancel()

    # --- what nodes say ---------------------------------------------------------------------------

    async def keys(self, place: Place, node: str, signed: Signed) -> Roster:
        """A node takes part; who else does, once that is settled. Raises SumRefused, RoundClosed, BadSignature."""
        told = self._read(place, node, signed, SumKeys, KEYS)
        if told.model != self._model:
            raise SumRefused("it was sent another model than this round's")
        await self._answer(node, rules.KEYS, self._said.keys, signed)
        if not await self._past(place, rules.KEYS):
            return Roster()
        keys = tuple(self._said.keys[key] for key in sorted(self._sum.roster))
        return Roster(keys, self._sum.threshold)

    async def deal(self, place: Place, node: str, message: Dealt) -> Shares:
        """A node deals its shares; what the others dealt to it, once all did. Raises SumRefused, RoundClosed."""
        self._check(place)
        if node not in self._sum.roster or message.shares.keys() != self._holders(node) - {node}:
            raise SumRefused("shares are dealt to all others of the roster, or of one's neighbours in it")
        await self._answer(node, rules.SHARES, self._said.dealt, message.shares)
        if not await self._past(place, rules.SHARES):
            return Shares()
        self._still_in(node, self._sum.dealers)
        near = self._sum.dealers & self._holders(node)
        return Shares({other: self._said.dealt[other][node] for other in near - {node}})

    async def survived(self, place: Place, node: str) -> Survivors:
        """Whose vectors are in the sum, once the round is closed. Raises SumRefused, RoundClosed."""
        if not await self._past(place, rules.VECTORS):
            return Survivors()
        self._still_in(node, self._sum.survivors)
        return Survivors(tuple(sorted(self._sum.survivors)))

    async def consent(self, place: Place, node: str, signed: Signed) -> Consents:
        """A node has seen the survivors; all who did, once they are enough. Raises SumRefused, RoundClosed."""
        seen = self._read(place, node, signed, Consent, SURVIVORS)
        if seen.survivors != survivors_digest(self._sum.survivors):
            raise SumRefused("it saw other survivors than those of this sum")
        await self._answer(node, rules.CONSENTS, self._said.consents, signed)
        if not await self._past(place, rules.CONSENTS):
            return Consents()
        return Consents(tuple(self._said.consents[key] for key in sorted(self._said.consents)))

    async def reveal(self, place: Place, node: str, message: Revealed) -> None:
        """A node hands in its shares. Raises SumRefused, RoundClosed."""
        self._check(place)
        self._still_in(node, self._sum.survivors)
        near = self._sum.dealers & self._holders(node)
        if message.masks.keys() != near & self._sum.survivors or message.keys.keys() != near - self._sum.survivors:
            raise SumRefused("it reveals other shares than those that lift this sum's masks")
        await self._answer(node, rules.REVEALS, self._said.revealed, message)

    # --- the sum ----------------------------------------------------------------------------------

    async def lift(self, survivors: frozenset[str]) -> Lift:
        """The seeds of the masks that are on the sum of these nodes' vectors, once enough of them revealed.

        Raises:
            NoParticipants: too few took part, answered, or told the truth.
        """
        place = Place(self._number, self.id)
        try:
            while not await self._past(place, rules.SHARES):
                pass
            self._apply(rules.Collected(survivors))
            while not await self._past(place, rules.REVEALS):
                pass
        except SumRefused as broken:
            raise NoParticipants(broken.detail) from None
        if self._sum.survivors != survivors:
            raise NoParticipants("a vector of a node that dealt no shares is in the sum")
        return await asyncio.to_thread(self._seeds)

    def _seeds(self) -> Lift:
        told, transcript, circle = self._settled()
        revealed, added, subtracted = self._said.revealed, list[bytes](), list[bytes]()
        for node in sorted(self._sum.survivors):
            near = enumerate(circle.holders(node), start=1)
            dealt = {at: revealed[key].masks[node] for at, key in near if key in revealed}
            secret = self._combined(dealt, _digest, told[node].secret)
            subtracted.append(masks.self_seed(secret, transcript))
        for gone in sorted(self._sum.dealers - self._sum.survivors):
            holders = circle.holders(gone)
            dealt = {at: revealed[key].keys[gone] for at, key in enumerate(holders, start=1) if key in revealed}
            own = X25519PrivateKey.from_private_bytes(self._combined(dealt, _public, told[gone].masks))
            for node in sorted(self._sum.survivors & frozenset(holders)):
                seed = masks.pair_seed(own, told[node].masks, transcript)
                (added if gone < node else subtracted).append(seed)
        return Lift(tuple(added), tuple(subtracted), len(told))

    def _settled(self) -> _Agreed:
        """What the roster agreed on, once there is one."""
        if self._agreed is None:
            told = {key: read_document(self._said.keys[key], SumKeys, KEYS) for key in self._sum.roster}
            threshold = self._sum.threshold
            digest = transcript_of(self._task, self._number, told, threshold, self.clipping.rule.bound, self._numbers)
            self._agreed = _Agreed(told, digest, Circle(told, threshold, digest))
        return self._agreed

    def _holders(self, node: str) -> frozenset[str]:
        return frozenset(self._settled().circle.holders(node))

    def _combined(self, dealt: Mapping[int, bytes], public: Callable[[bytes], T], told: T) -> bytes:
        """The secret of these shares, of which some may be wrong; what its owner `told` of it shows which."""
        threshold = self._settled().circle.needed
        for chosen in itertools.islice(itertools.combinations(sorted(dealt), threshold), TRIES):
            try:
                found = shares.combine({at: dealt[at] for at in chosen}, threshold)
            except Malformed:
                continue
            if public(found) == told:
                return found
        raise NoParticipants("the shares that were revealed do not lift the masks: some are wrong")

    # --- steps ------------------------------------------------------------------------------------

    def _read(self, place: Place, node: str, signed: Signed, kind: type[D], purpose: str) -> D:
        self._check(place)
        document = read_document(signed, kind, purpose, signer=node)
        if (document.run, document.round, document.sum) != (self._task.run, *place):
            raise BadRequest("signed for another sum")
        return document

    async def _answer(self, node: str, step: rules.State, said: dict[str, Word], word: Word) -> None:
        """The first word of a node in a step counts; whoever asks again hears what came of it."""
        if self._sum.state == rules.BROKEN:
            raise SumRefused(self._sum.reason)
        if node in said:
            return
        if self._sum.state != step:
            raise SumRefused(f"too late: this sum waits for {self._sum.state.value} by now")
        said[node] = word
        try:
            self._apply(rules.Answered(node))
        except SumRefused:
            del said[node]
            raise
        if self._sum.state == step and 0 < self._sum.threshold <= len(self._sum.answered):
            self._wait_for_step(enough=True)

    async def _past(self, place: Place, step: rules.State) -> bool:
        """Whether a step is over, after waiting for it. Raises SumRefused, RoundClosed, for a lift NoParticipants."""
        steps = list(rules.State)
        until = asyncio.get_running_loop().time() + WAIT
        while True:
            self._check(place)
            if self._sum.state == rules.BROKEN:
                raise SumRefused(self._sum.reason)
            if steps.index(self._sum.state) > steps.index(step):
                return True
            changed = self._changed
            try:
                async with asyncio.timeout_at(until):
                    await changed.wait()
            except TimeoutError:
                return False

    def _check(self, place: Place) -> None:
        if place != (self._number, self.id) or not self._number:
            raise RoundClosed(f"this sum of round {place.round} is over")

    @staticmethod
    def _still_in(node: str, those: frozenset[str]) -> None:
        if node not in those:
            raise SumRefused("this node missed a step of this sum")

    def _apply(self, event: object) -> None:
        before = self._sum.state
        self._sum, _ = rules.advance(self._sum, event)
        if self._sum.state != before:
            self._ring()
            self._wait_for_step()

    def _ring(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _wait_for_step(self, enough: bool = False) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if rules.SUM.takes(self._sum, rules.TimeOver):
            self._timer = asyncio.get_running_loop().call_later(SOON if enough else STEP, self._apply, rules.TimeOver())


def _digest(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()


def _public(key: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()
