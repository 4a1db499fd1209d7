"""Health checks: the gateway asks its members whether they are there, one sweep for all of them.

A signed member must sign the check's nonce, so that nobody else can keep its membership alive. The RFC says
only that a node is pinged: from an unsigned member any answer but a server's error will do.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Literal

import msgspec

from grid.crypto import errors
from grid.crypto.encoding import b64
from grid.crypto.identity import public_from_id
from grid.crypto.signing import verify
from grid.gateway.ask import Answer, Ask, url_of
from grid.gateway.claim import Claim
from grid.gateway.register import Register
from grid.gateway.roll import Listed
from grid.gateway.schedule import Schedule
from grid.transport.hello import HEALTH_DOMAIN, health_statement
from grid.wire.relay import mailbox_at

INTERVAL = 30.0
"""Seconds between two checks of one member that answers."""
BACK_OFF = 8
"""Intervals: the longest between two checks of one that does not."""
DEADLINE = 3.0
AT_ONCE = 64
"""Checks under way."""
FEW = 20
"""Checks that begin in one sweep beyond what all members need: a gateway that starts again, or that thousands
join at once, asks them one after the other and goes on answering meanwhile."""
TICK = 1.0
"""Seconds between sweeps."""


class Echo(msgspec.Struct):
    """What a health check answers, as far as a gateway reads it."""

    status: str = "online"
    node_id: str | None = msgspec.field(default=None, name="node-id")
    signature: bytes = b""


class Checks:
    """Asks every member once per `interval` seconds, and tells the register what came."""

    def __init__(
        self,
        register: Register,
        ask: Ask,
        now: Callable[[], float],
        *,
        interval: float = INTERVAL,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._register, self._ask, self._now, self._interval, self._entropy = register, ask, now, interval, entropy
        self._due = Schedule()
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Check until cancelled. With nobody listed it does nothing at all."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._register.stirred.wait()
                await self.sweep(group)
                await self._rest()

    async def _rest(self) -> None:
        """Until somebody is due or has joined, and for a tick at least."""
        await asyncio.sleep(TICK)
        try:
            async with asyncio.timeout(min(self._due.next() - self._now(), self._interval)):
                await self._register.arrived.wait()
        except TimeoutError:
            return

    async def sweep(self, group: asyncio.TaskGroup) -> None:
        """Begin the checks that are due, as fast as those under way make room."""
        now = self._now()
        for node_id in self._register.newcomers():
            self._due.no_later(node_id, now)
        most = FEW + int(1.25 * TICK * len(self._register.roll) / self._interval)
        for node_id in self._due.take(now, most):
            listed = self._register.roll.get(node_id)
            if listed and mailbox_at(listed.claim.node_address):
                continue  # nobody can connect to it: that it renews its lease is all there is to see
            if listed:
                await self._slots.acquire()
                group.create_task(self._check(listed))

    async def _check(self, listed: Listed) -> None:
        claim, nonce = listed.claim, b64(self._entropy(12))
        try:
            url = url_of(claim.node_address, f"/health-check?nonce={nonce}")
            answer = await self._ask("GET", url, deadline=DEADLINE)
        finally:
            self._slots.release()
        if self._register.roll.get(claim.node_id) is listed:
            self._tell(listed, judge(claim, nonce, answer), answer)
        else:  # it left, or joined anew meanwhile
            self._due.no_later(claim.node_id, self._now() + self._interval)

    def _tell(self, listed: Listed, state: str | None, answer: Answer | None) -> None:
        if answer and state:
            self._register.answered(listed, answer.latency, busy=state == "busy")
        else:
            self._register.silent(listed)
        # Whoever renews shows that it lives; what a check adds is that it can be reached, which changes less often.
        patience = 2 if listed.renewed and not listed.misses else min(BACK_OFF, 2 ** max(0, listed.misses - 2))
        listed.renewed = False
        self._due.put(listed.claim.node_id, self._now() + self._interval * patience)


def judge(claim: Claim, nonce: str, answer: Answer | None) -> Literal["online", "busy"] | None:
    """What an answer to a check says of the member; None: nothing that shows it is there."""
    if answer is None or answer.status >= 500:
        return None
    echo = _read(answer.body)
    if claim.signer and not (answer.status == 200 and echo and _signed(claim, nonce, echo)):
        return None
    return "busy" if echo and echo.status in {"busy", "draining"} else "online"


def _read(body: bytes) -> Echo | None:
    try:
        return msgspec.json.decode(body, type=Echo)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def _signed(claim: Claim, nonce: str, echo: Echo) -> bool:
    try:
        said = health_statement("node", claim.node_id, nonce)
        verify(public_from_id(claim.signer or ""), HEALTH_DOMAIN, said, echo.signature)
    except (errors.BadSignature, errors.Malformed):
        return False
    return echo.node_id == claim.node_id
