"""A participant's side of a secure sum: it hides what it learned, and reveals only what lifts the masks of the sum.

Its secrets are in memory alone and gone with the round: a node that was killed cannot reveal anything any more.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from msgspec.structs import replace

from grid.crypto import masks, shares
from grid.crypto.errors import CryptoError
from grid.learning.strategy import Masked
from grid.node.lift import Place, survivors_digest, transcript_of
from grid.node.means import Means
from grid.node.upstream import Upstream
from grid.protocol import secure_sum as rules
from grid.protocol.documents import read_document, sign_document
from grid.protocol.neighbours import Circle
from grid.wire.documents import Signed
from grid.wire.endpoint import Endpoint
from grid.wire.problems import SumRefused
from grid.wire.runs import Task
from grid.wire.sums import (
    CONSENT,
    DEAL,
    KEYS,
    REVEAL,
    SURVIVED,
    SURVIVORS,
    TELL_KEYS,
    Consent,
    Dealt,
    Revealed,
    Roster,
    SumKeys,
)

Takes = TypeVar("Takes")
Gives = TypeVar("Gives")


class Seeds(NamedTuple):
    """Seeds (16 bytes each) of the masks that go onto this node's vector; `parties`: nodes of the roster."""

    added: list[bytes]
    subtracted: list[bytes]
    parties: int


class SumParty:
    """One node in the secure sum of one round. `agree` before its vector is sent, `reveal` after it was counted."""

    def __init__(self, means: Means, upstream: Upstream, task: Task, place: Place, rule: Masked, numbers: int) -> None:
        self._means, self._upstream, self._task = means, upstream, task
        (self._number, self._sum), self._rule, self._numbers = place, rule, numbers
        self._me, self._terms = means.identity.id, means.terms
        if rule.noisy:  # fewer survivors would be hidden by less noise than was promised
            self._terms = replace(self._terms, nodes=max(self._terms.nodes, rule.least))
        self._mask_key, self._share_key = X25519PrivateKey.generate(), X25519PrivateKey.generate()
        self._secret = os.urandom(32)
        self._held: dict[str, tuple[bytes, bytes]] = {}
        self._part: rules.Part
        self._transcript = b""

    async def agree(self, model: str) -> Seeds:
        """Tell keys, deal shares: the seeds of this node's masks. `model`: SHA-256 of what this node was sent.

        Raises:
            SumRefused: something does not hold that this node insists on, or the sum has too few nodes.
        """
        mine = SumKeys(
            run=self._task.run,
            round=self._number,
            sum=self._sum,
            masks=self._mask_key.public_key().public_bytes_raw(),
            shares=self._share_key.public_key().public_bytes_raw(),
            secret=hashlib.sha256(self._secret).hexdigest(),
            model=model,
        )
        signed = sign_document(self._means.identity, KEYS, mine)
        roster = await self._ask(TELL_KEYS, signed, lambda got: bool(got.keys))
        told = self._checked(roster, signed)
        self._transcript = transcript_of(
            self._task, self._number, told, roster.threshold, self._rule.bound, self._numbers
        )
        circle = Circle(told, roster.threshold, self._transcript)
        keys = tuple(each.signer for each in roster.keys)
        self._part = rules.took_part(self._me, keys, roster.threshold, self._terms, circle)
        dealt = self._deal(told)
        got = await self._ask(DEAL, dealt, lambda got: bool(got.shares))
        self._part, _ = rules.advance(self._part, rules.SharesCame(frozenset(got.shares) | {self._me}))
        try:
            for node, sealed in got.shares.items():
                both = masks.open_shares(self._share_key, told[node].shares, self._transcript, sealed)
                self._held[node] = both[: shares.SHARE_BYTES], both[shares.SHARE_BYTES :]
            return self._seeds(told)
        except CryptoError as error:
            raise SumRefused(f"shares or a key of another node: {error}") from None

    def sent(self) -> None:
        """The vector leaves this node."""
        self._part, _ = rules.advance(self._part, rules.VectorSent())

    async def reveal(self) -> None:
        """Once the sum is closed: consent to its survivors, and reveal what lifts its masks.

        Raises:
            SumRefused: this node does not see what it insists on, and reveals nothing.
        """
        survivors = await self._ask(SURVIVED, None, lambda got: bool(got.nodes))
        named = frozenset(survivors.nodes)
        rules.consider(self._part, named)
        mine = Consent(
            run=self._task.run,
            round=self._number,
            sum=self._sum,
            transcript=self._transcript.hex(),
            survivors=survivors_digest(named),
        )
        signed = sign_document(self._means.identity, SURVIVORS, mine)
        consents = await self._ask(CONSENT, signed, lambda got: bool(got.consents))
        seen = frozenset(self._consenting(each, mine) for each in consents.consents)
        self._part, (told,) = rules.advance(self._part, rules.SurvivorsNamed(named, seen))
        await self._means.records.revealed(self._task.run, self._number, self._me, sorted(named))
        message = Revealed(
            {node: self._held[node][0] for node in told.masks}, {node: self._held[node][1] for node in told.keys}
        )
        await self._upstream.ask(REVEAL, message, self._number, self._sum)

    async def _ask(
        self, endpoint: Endpoint[Takes, Gives], message: Takes | None, there: Callable[[Gives], bool]
    ) -> Gives:
        """Ask again until there is an answer; each one waits a while at the other side."""
        while not there(answer := await self._upstream.ask(endpoint, message, self._number, self._sum)):
            pass
        return answer

    def _checked(self, roster: Roster, mine: Signed) -> dict[str, SumKeys]:
        """The keys of all who take part, by their own."""
        told = {each.signer: read_document(each, SumKeys, KEYS) for each in roster.keys}
        if mine not in roster.keys:
            raise SumRefused("this node's own keys are not in the roster as it told them")
        here = told[self._me]
        for keys in told.values():
            if (keys.run, keys.round, keys.sum, keys.model) != (here.run, here.round, here.sum, here.model):
                raise SumRefused("a node of the roster was sent another model, or signed for another sum")
        public = [key for keys in told.values() for key in (keys.masks, keys.shares)]
        if len(set(public)) != len(public):
            raise SumRefused("a key is in the roster twice")
        return told

    def _deal(self, told: dict[str, SumKeys]) -> Dealt:
        """This node's shares of its two secrets, for each of the others that hold some; its own stay here."""
        order, needed = sorted(self._part.holders), self._part.needed
        own = dict(zip(order, shares.split(self._secret, needed, len(order)), strict=True))
        key = dict(zip(order, shares.split(self._mask_key.private_bytes_raw(), needed, len(order)), strict=True))
        self._held[self._me] = own[self._me], key[self._me]
        return Dealt(
            {
                node: masks.seal_shares(self._share_key, told[node].shares, self._transcript, own[node] + key[node])
                for node in order
                if node != self._me
            }
        )

    def _seeds(self, told: dict[str, SumKeys]) -> Seeds:
        others = sorted(self._part.dealers - {self._me})
        pair = {node: masks.pair_seed(self._mask_key, told[node].masks, self._transcript) for node in others}
        added = [masks.self_seed(self._secret, self._transcript), *(pair[node] for node in others if self._me < node)]
        return Seeds(added, [pair[node] for node in others if self._me > node], len(told))

    def _consenting(self, signed: Signed, mine: Consent) -> str:
        """Who signed, if it is for the very same survivors."""
        if read_document(signed, Consent, SURVIVORS) != mine:
            raise SumRefused("a node consented to other survivors")
        return signed.signer
