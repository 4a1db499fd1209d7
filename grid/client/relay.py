"""Calls through a relay: each goes as a sealed letter to a mailbox at a gateway, its answer comes back as another.

A letter is dealt with at least once, and its answer is told once: the gateway knows letters by their digest, and a
recipient remembers (`Answered`) those it has answered. Calls of the grid are made so that to repeat one does no harm.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

from multidict import CIMultiDict, CIMultiDictProxy

from grid.client.calls import Calls
from grid.client.core import PROBLEM, Request
from grid.client.handing_in import hand_in
from grid.client.letters import ASKED, KIND, Answer, Body, Call, Letter, Written, some, unseal
from grid.client.mailbox import Mailbox, Prekeys, Waiting
from grid.client.payload import once, read_prekey
from grid.client.relaying import unconnected
from grid.crypto.encoding import b64
from grid.crypto.envelope import Context, Header
from grid.crypto.identity import Identity, public_from_id
from grid.crypto.prekeys import PrekeyPublic
from grid.crypto.sealing import Opener
from grid.wire.message import encode
from grid.wire.problems import (
    BadRequest,
    Draining,
    GridError,
    LetterRepeated,
    MailboxFull,
    MailboxUnknown,
    NotFound,
    QuotaSpent,
    TooManyRequests,
    TooSlow,
    Unreachable,
    to_problem,
)
from grid.wire.relay import LETTER_HELD, LETTER_LIMIT, MAILBOX, POST_LETTER, key_of, mailbox_address, mailbox_at

log = logging.getLogger(__name__)

PREKEY_LIFE = 600.0
"""Seconds for which a mailbox's prekey is not asked for again."""

LATE = 30.0
"""Seconds for which a letter may be opened after whoever sent it has given up."""

AWAY = 1.0
"""Seconds between tries to post an answer to a gateway that is away."""

PASSING = (Unreachable, Draining, TooSlow)

_LETTER = Context(run="", round=0, kind=KIND, direct=True, max_length=LETTER_LIMIT)

SILENT = 0.3
"""Seconds for which a mailbox may not have been listened to; longer, and its holder is not there."""

INSTEAD = 60.0
"""Seconds for which calls go to a mailbox in place of an address before that is tried again."""

MOVING = 8
"""Seconds that a node whose relay is gone has to say where it reads now."""

REMEMBERED = 10_000

EACH = 128
"""Calls of one sender that are answered at once."""

MOST = 32
"""Gateways at which one program reads."""

Spawn = Callable[[Coroutine[Any, Any, None]], object]


class Answered(Protocol):
    """Which letters were answered before, also before a restart."""

    async def has(self, letter: str) -> bool:
        """Whether this one was."""

    async def add(self, letter: str, expires: float) -> None:
        """It is answered, and nobody takes it in after `expires`."""


Serve = Callable[[bytes, Call, Body], Awaitable[tuple[int, dict[str, str], Body]]]
"""Answers a call of the holder of a public key (32 bytes): status, headers that travel, body. Raises Unreachable."""

Finds = Callable[[bytes], Awaitable[str | None]]
"""Where the holder of a public key (32 bytes) answers now, as far as that is known."""


class Response:
    """An answer that came in a letter: as much of aiohttp's response as `Calls` looks at."""

    def __init__(self, answer: Answer, body: Body) -> None:
        self.status, self.content, self.content_length = answer.status, body, body.size
        self.headers = CIMultiDictProxy(CIMultiDict(answer.headers))

    def close(self) -> None:
        """Read no more of it."""
        self.content.close()


class Relay:
    """Sends calls in letters and hears their answers, in the mailbox of `identity` with this `label`.

    `spawn` owns what runs beside the calls. At `gateways` those are looked for to whom nobody can connect; `finds`, if
    there is one, says where the holder of a key answers now.
    """

    def __init__(
        self,
        calls: Calls,
        identity: Identity,
        prekeys: Prekeys,
        now: Callable[[], float],
        spawn: Spawn,
        *,
        label: str = "",
    ) -> None:
        self._calls, self._identity, self._prekeys, self._now, self._spawn = calls, identity, prekeys, now, spawn
        self._label = label
        self.name = f"{identity.id}.{label}" if label else identity.id
        self._serve: Serve | None = None
        self._answered: Answered | None = None
        self._boxes: dict[str, Mailbox] = {}
        self._serving: set[str] = set()
        self._busy: Counter[bytes] = Counter()
        self._asked: dict[str, tuple[bytes, asyncio.Future[Response], str]] = {}
        self._keys: dict[tuple[str, str], tuple[PrekeyPublic, float]] = {}
        self._instead: dict[tuple[bytes, str], tuple[str, float]] = {}
        self.gateways: tuple[str, ...] = ()
        self.finds: Finds | None = None

    def serves(self, serve: Serve, answered: Answered) -> None:
        """Calls of others are answered from here on."""
        self._serve, self._answered = serve, answered

    def reads(self, gateway: str) -> Mailbox:
        """Read the mailbox at this gateway from now on. Raises Unreachable where these are too many."""
        box = self._boxes.get(gateway)
        if box is None:
            if len(self._boxes) >= MOST:
                for lost in [each for each, held in self._boxes.items() if held.lost.is_set()]:
                    self.reads_no_more(lost)
            if len(self._boxes) >= MOST:
                raise Unreachable(f"letters are read at {MOST} gateways already")
            box = self._boxes[gateway] = Mailbox(
                self._calls, gateway, self.name, self._prekeys, self._heard, self._gone
            )
            self._spawn(box.read())
        return box

    def reads_no_more(self, gateway: str) -> None:
        """Leave the mailbox at this gateway, unless it is one of `gateways`, which may come back."""
        if gateway not in self.gateways and (box := self._boxes.pop(gateway, None)):
            box.close()

    def _gone(self, gateway: str) -> None:
        """No answer will come from there; it may from where else the one asked can be found."""
        if self.finds is None or gateway in self.gateways:
            return
        for _, answer, at in self._asked.values():
            if at == gateway and not answer.done():
                answer.set_exception(Unreachable(f"the relay {gateway} is gone"))

    # --- where nobody can be connected to -------------------------------------------------------

    def instead(self, peer: bytes, address: str) -> str | None:
        """The mailbox to use in place of an address: see `Relayed.instead`."""
        box, until = self._instead.get((peer, address), ("", 0.0))
        return box if self._now() < until else None

    def forget(self, peer: bytes, address: str) -> None:
        """Try the address itself again."""
        self._instead.pop((peer, address), None)

    async def box_of(self, peer: bytes, address: str) -> str | None:
        """Where the holder of a key reads letters at this moment: see `Relayed.box_of`."""
        name, (at, _) = b64(peer), mailbox_at(address) or ("", "")
        for gateway in self.gateways:
            if gateway == at:
                continue
            try:
                silent = (await self._calls.call(gateway, MAILBOX, mailbox=name)).silent
            except GridError:
                continue
            if silent < SILENT:
                return self._use(mailbox_address(gateway, name), peer, address)
        found = await self._found(peer, address)
        return None if found is None else self._use(found, peer, address)

    async def _found(self, peer: bytes, address: str) -> str | None:
        """Where else the holder of a key says that it is; one whose relay is gone is on its way to another."""
        pauses = MOVING if mailbox_at(address) else 1
        for turn in range(pauses if self.finds is not None else 0):
            await asyncio.sleep(min(turn, 1.0))
            assert self.finds is not None
            if (found := await self.finds(peer)) not in {None, address}:
                return found
        return None

    def _use(self, box: str, peer: bytes, address: str) -> str:
        if len(self._instead) >= REMEMBERED:
            self._instead.clear()
        self._instead[peer, address] = box, self._now() + INSTEAD
        log.info("%s: nobody can connect there; calls go to %s", address, box)
        return box

    # --- calling --------------------------------------------------------------------------------

    @asynccontextmanager
    async def ask(
        self, gateway: str, mailbox: str, sent: Request, body: AsyncIterable[bytes] | None, patience: float
    ) -> AsyncIterator[Response]:
        """The response to a call: see `Relayed.ask`."""
        await self.reads(gateway).usable()  # if it is not, what is posted says so
        peer = public_from_id(key_of(mailbox))
        recipient = await self._prekey(gateway, mailbox, peer)
        head = Call(
            method=sent.method,
            target=sent.target,
            headers=some(sent.headers, ASKED),
            label=self._label,
            prekey=self._prekeys.published(),
            patience=patience,
        )
        length = len(sent.body) if body is None else _length(sent)
        written = Written(self._header(peer, self._now() + patience + LATE), head, recipient, length)
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        async with written.by(self._identity, once(sent.body) if body is None else body) as letter:
            self._asked[letter.name] = peer, answer, gateway
            try:
                await self._post(gateway, mailbox, letter)
                response = await answer
            except MailboxUnknown:
                raise unconnected(f"nobody reads the mailbox {mailbox} at {gateway}") from None
            except Unreachable:
                self._keys.pop((gateway, mailbox), None)  # before the next letter is sealed, the relay is asked
                raise
            except asyncio.CancelledError:
                self._keys.pop((gateway, mailbox), None)  # perhaps it is there with other keys
                if answer.done() and not answer.cancelled():
                    answer.result().close()
                raise
            finally:
                del self._asked[letter.name]
        try:
            yield response
        finally:
            response.close()

    async def _prekey(self, gateway: str, mailbox: str, peer: bytes) -> PrekeyPublic:
        held, until = self._keys.get((gateway, mailbox), (None, 0.0))
        if held is None or self._now() >= until:
            try:
                box = await self._calls.call(gateway, MAILBOX, mailbox=mailbox)
            except (MailboxUnknown, NotFound):  # no such mailbox, or no relay there any more
                raise unconnected(f"nobody reads the mailbox {mailbox} at {gateway}") from None
            if box.silent > AWAY and await self._moved(gateway, mailbox, peer):
                raise unconnected(f"{mailbox} reads elsewhere than at {gateway}")
            held = read_prekey(box.prekey, peer, self._now())
            self._keys[gateway, mailbox] = held, min(self._now() + PREKEY_LIFE, held.not_after)
        return held

    async def _moved(self, gateway: str, mailbox: str, peer: bytes) -> bool:
        """Whether the holder of a mailbox at which nobody listens says that it is somewhere else now."""
        found = None if self.finds is None else await self.finds(peer)
        return found not in {None, mailbox_address(gateway, mailbox)}

    async def _post(self, gateway: str, mailbox: str, letter: Letter) -> None:
        """Post a letter; where there is no room for it, again and again."""
        calls, name, data = self._calls, letter.name, letter.data
        while True:
            try:
                if isinstance(data, Path):
                    await hand_in(
                        calls, gateway, POST_LETTER, LETTER_HELD, data, content=name, mailbox=mailbox, letter=name
                    )
                else:
                    length = len(data)
                    await calls.upload(gateway, POST_LETTER, once(data), length=length, mailbox=mailbox, letter=name)
                return
            except LetterRepeated:
                return
            except (QuotaSpent, MailboxFull) as error:
                await asyncio.sleep(error.retry_after or 1.0)

    # --- hearing --------------------------------------------------------------------------------

    async def _heard(self, waiting: Waiting) -> None:
        """Deal with one letter: an answer is given to whoever waits for it, a call is answered."""
        opener = Opener(self._identity.public, self._prekeys.find, _LETTER, self._now())
        async with waiting.blocks() as blocks:
            name, head, body = await unseal(opener, blocks)
        header = opener.header
        assert header is not None
        if isinstance(head, Answer):
            self._give(header.sender, head, body)
            return
        with closing(body):
            if self._serve is None or name in self._serving:
                return
            self._serving.add(name)
            try:
                async with asyncio.timeout(header.expires - self._now()):
                    await self._reply(waiting.gateway, name, header, head, body)
            except TimeoutError:
                log.info("letter %s: its time was over before it was answered", name)
            finally:
                self._serving.discard(name)

    def _give(self, sender: bytes, answer: Answer, body: Body) -> None:
        peer, waits, _ = self._asked.get(answer.to, (b"", None, ""))
        if waits is None or waits.done() or peer != sender:  # whoever asked has given up, or never was
            body.close()
        else:
            waits.set_result(Response(answer, body))

    async def _reply(self, gateway: str, name: str, header: Header, call: Call, body: Body) -> None:
        assert self._serve is not None
        if self._answered is not None and await self._answered.has(name):
            return
        recipient = read_prekey(call.prekey, header.sender, self._now())
        status, headers, given = await self._served(header.sender, call, body)
        answer = Answer(to=name, status=status, headers=headers)
        written = Written(self._header(header.sender, header.expires), answer, recipient, given.size)
        mailbox = b64(header.sender) + (f".{call.label}" if call.label else "")
        try:
            async with written.by(self._identity, given) as letter:
                await self._post_patiently(gateway, mailbox, letter)
        finally:
            given.close()
        if self._answered is not None:
            await self._answered.add(name, header.expires)

    async def _served(self, sender: bytes, call: Call, body: Body) -> tuple[int, dict[str, str], Body]:
        """The answer to a call, or that its sender has too many under way."""
        assert self._serve is not None
        if self._busy[sender] >= EACH:
            error = TooManyRequests(f"{EACH} calls of this sender are under way", retry_after=1.0)
            said = encode(to_problem(error))
            return error.status, {"Content-Type": PROBLEM}, Body(BytesIO(said), len(said))
        self._busy[sender] += 1
        try:
            return await self._serve(sender, call, body)
        finally:
            self._busy[sender] -= 1
            if not self._busy[sender]:
                del self._busy[sender]

    async def _post_patiently(self, gateway: str, mailbox: str, letter: Letter) -> None:
        """An answer is made once: where the gateway is away, it waits for it."""
        while True:
            try:
                return await self._post(gateway, mailbox, letter)
            except PASSING:
                await asyncio.sleep(AWAY)
            except MailboxUnknown:  # whoever asked reads no more
                return None

    def _header(self, audience: bytes, expires: float) -> Header:
        now = int(self._now())
        return Header(
            sender=self._identity.public, audience=audience, kind=KIND, created=now, expires=max(int(expires), now + 1)
        )


def _length(sent: Request) -> int:
    try:
        return int(sent.headers["Content-Length"])
    except KeyError:
        raise BadRequest("a stream of unknown length does not fit into a letter") from None
