"""Mailboxes: sealed letters wait here until their recipients take them, or their time is over.

The relay proves who posts a letter, that it is signed by that one and addressed to the holder of the mailbox,
and passes on bytes. It holds no key to open them, and no room that could use one. A gateway is one, and so is a node
that agreed to be.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path

import msgspec

from grid.crypto import errors
from grid.crypto.identity import public_from_id
from grid.crypto.prekeys import read_published
from grid.relay.letters import Arrival
from grid.relay.quotas import ROOM, Quotas
from grid.store import letters as rows
from grid.store.blobs import Blobs
from grid.store.database import Database
from grid.store.events import EventLog
from grid.store.letters import LetterRow, topic_of
from grid.transport.auth import Caller
from grid.transport.partial import Partials
from grid.transport.parts import Parts
from grid.wire.problems import (
    BadRequest,
    BadSignature,
    LetterRepeated,
    MailboxFull,
    MailboxUnknown,
    NotAllowed,
    NotFound,
)
from grid.wire.ranges import Held, Piece
from grid.wire.relay import INLINE, Box, Posted, key_of
from grid.wire.runs import After, Event, Events

log = logging.getLogger(__name__)

LIFE = 24 * 3600.0
"""Seconds for which a letter waits at most, whatever it says of itself."""

UNREAD = 30 * 24 * 3600.0
"""Seconds after which a mailbox is closed that its holder did not open again."""

AGAIN = 3600.0
"""Seconds within which it makes no difference that a holder opens its mailbox once more."""

MOST, EACH = 100_000, 64
"""Mailboxes in all, and of one holder."""

AT_ONCE = 64
"""Letters that one answer tells of: with their bytes they are under 3 MiB."""

TICK = 30.0
"""Seconds between looks for letters whose time is over."""

BLOCK = 256 * 1024


class Mailboxes:
    """The mailboxes of one relay: rows and events in `database`, what is not small in `blobs`."""

    def __init__(
        self, database: Database, events: EventLog, blobs: Blobs, now: Callable[[], float], room: int = ROOM
    ) -> None:
        self._database, self._events, self._blobs, self._now = database, events, blobs, now
        self._quotas = Quotas(room)
        # The beginning of its prekey's digest, when it was opened, and when a poll of it ended.
        self._open: dict[str, tuple[bytes, float, float]] = {}
        self._polls: Counter[str] = Counter()
        self._held: Counter[str] = Counter()  # mailboxes, by their holder
        self._partials: Partials[Arrival] = Partials()
        self._keeping: set[asyncio.Future[Posted]] = set()

    async def load(self) -> None:
        """Take up what the last run left; files of letters that are no longer waiting go."""
        for name, prekey, opened in await self._database.read(rows.all_mailboxes):
            self._open[name] = _mark(prekey), opened, 0.0
            self._held[key_of(name)] += 1
        files = set()
        for row, waits in await self._database.read(rows.all_letters):
            self._quotas.take_over(row.sender, key_of(row.mailbox), row.size)
            if waits:
                files.add(_file(row.mailbox, row.id))
            else:
                self._quotas.taken(row.sender, key_of(row.mailbox), row.size)
        for path in self._blobs.named("x").parent.glob("*"):
            if path.name not in files:
                path.unlink()

    def close(self) -> None:
        """Let go of those who listen, and of what has not arrived."""
        self._events.close()
        self._partials.close()

    @property
    def waiting(self) -> int:
        """Bytes of letters that wait or are on their way in."""
        return self._quotas.total

    # --- mailboxes ------------------------------------------------------------------------------

    async def open(self, mailbox: str, prekey: bytes, caller: Caller) -> None:
        """Open a mailbox of the caller's own, or hand over a new prekey for it.

        Raises:
            NotAllowed: it is another's.
            BadSignature: the prekey is not the caller's, or its time is over.
            MailboxFull: there are as many mailboxes as there may be.
        """
        _own(mailbox, caller)
        now = self._now()
        try:
            read_published(prekey, public_from_id(key_of(mailbox)), now)
        except errors.CryptoError as error:
            raise BadSignature(str(error)) from None
        known, opened, heard = self._open.get(mailbox, (b"", 0.0, 0.0))
        if known == _mark(prekey) and now - opened < AGAIN:
            return
        if not known and (len(self._open) >= MOST or self._held[key_of(mailbox)] >= EACH):
            raise MailboxFull("there are as many mailboxes here as there may be")
        await self._database.write(lambda connection: rows.open_mailbox(connection, mailbox, prekey, now))
        if mailbox not in self._open:
            self._held[key_of(mailbox)] += 1
        self._open[mailbox] = _mark(prekey), now, heard

    async def box(self, mailbox: str) -> Box:
        """What letters for this mailbox are sealed to, and for how long nobody has listened. Raises MailboxUnknown."""
        known = self._open.get(mailbox)
        prekey = await self._database.read(lambda c: rows.prekey_of(c, mailbox)) if known else None
        if known is None or prekey is None:
            raise MailboxUnknown
        return Box(prekey, 0.0 if self._polls[mailbox] else max(0.0, self._now() - known[2]))

    # --- senders --------------------------------------------------------------------------------

    def held(self, mailbox: str, letter: str, caller: Caller, piece: Piece) -> Held:
        """How much of a letter arrived before its connection broke."""
        return self._partials.held(_place(mailbox, letter, caller), piece.content)

    async def post(
        self, mailbox: str, letter: str, caller: Caller, blocks: AsyncIterable[bytes], piece: Piece, size: int | None
    ) -> Posted:
        """Take in a letter, or the rest of it (`size` bytes): it is on disk when this returns.

        Raises:
            MailboxUnknown, LetterRepeated, QuotaSpent, MailboxFull: before its body is read.
            BadRequest, EnvelopeRefused: it is not what it should be.
            PartMismatch: the rest of another beginning than the one that is here.
        """
        if caller.id is None:
            raise NotAllowed("letters are signed by a key; a token has none")
        if mailbox not in self._open:
            raise MailboxUnknown
        if size is None or piece.content not in {"", letter}:
            raise BadRequest("a letter says beforehand how long it is, and its digest is in its path")
        if piece.begin + size > INLINE and await self._database.read(lambda c: rows.has(c, mailbox, letter)):
            raise LetterRepeated
        place = _place(mailbox, letter, caller)
        arrival = self._partials.take(place, piece) or self._arrival(caller.id, key_of(mailbox), piece.begin + size)
        try:
            async for block in blocks:
                arrival.write(block)
        except BaseException as error:
            self._partials.keep(place, piece, arrival, error)
            raise
        # From here on the caller may go away: what it sent is kept, or thrown away, all the same.
        keeping = asyncio.ensure_future(self._keep(mailbox, letter, caller.id, arrival))
        self._keeping.add(keeping)
        keeping.add_done_callback(self._keeping.discard)
        return await asyncio.shield(keeping)

    def _arrival(self, sender: str, recipient: str, size: int) -> Arrival:
        self._quotas.reserve(sender, recipient, size)

        def release() -> None:
            self._quotas.taken(sender, recipient, size)
            self._quotas.forgotten(sender, recipient)

        return Arrival(sender, recipient, self._blobs, self._now(), release)

    async def _keep(self, mailbox: str, letter: str, sender: str, arrival: Arrival) -> Posted:
        now = self._now()
        try:
            header = await arrival.finish(letter, _file(mailbox, letter))
            row = LetterRow(mailbox, letter, sender, arrival.size, min(float(header.expires), now + LIFE))
            await self._database.write(lambda connection: rows.put(connection, row, now, arrival.body))
        except Exception:
            arrival.abort()
            raise
        return Posted(row.expires)

    # --- recipients -----------------------------------------------------------------------------

    async def letters(self, mailbox: str, caller: Caller, after: After) -> Events:
        """What waits in the caller's mailbox behind a cursor. Raises NotAllowed."""
        _own(mailbox, caller)
        self._polls[mailbox] += 1
        try:
            found = await self._events.wait(topic_of(mailbox), after.after, _together(after.wait), AT_ONCE)
        finally:
            self._polls[mailbox] -= 1
            if not self._polls[mailbox]:
                del self._polls[mailbox]
            if known := self._open.get(mailbox):
                self._open[mailbox] = *known[:2], self._now()
        told = tuple(Event(event.cursor, event.kind, event.at, msgspec.json.decode(event.data)) for event in found)
        return Events(told, told[-1].cursor if told else after.after)

    async def letter(self, mailbox: str, letter: str, caller: Caller) -> Parts:
        """A letter that did not come with the entry that told of it. Raises NotAllowed, NotFound."""
        _own(mailbox, caller)
        path = self._blobs.named(_file(mailbox, letter))
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            raise NotFound("no such letter waits here") from None
        return Parts(letter, size, lambda begin, end: _read(path, begin, end))

    async def take(self, mailbox: str, letters: tuple[str, ...], caller: Caller) -> int:
        """The caller has dealt with these letters; how many of them were waiting. Raises NotAllowed."""
        _own(mailbox, caller)
        taken = await self._database.write(lambda connection: rows.take(connection, mailbox, letters))
        for row in taken:
            self._quotas.taken(row.sender, key_of(row.mailbox), row.size)
        self._remove(taken)
        return len(taken)

    # --- time -----------------------------------------------------------------------------------

    async def tend(self) -> None:
        """Throw away what nobody took in time, until cancelled."""
        while True:
            try:
                await self.expire()
            except Exception:  # the disk may be full; the next look tries again
                log.exception("letters whose time is over could not be removed")
            await asyncio.sleep(TICK)

    async def expire(self) -> None:
        """Throw away letters whose time is over, and mailboxes that nobody opens any more."""
        now = self._now()
        while gone := await self._database.write(lambda connection: rows.expire(connection, now)):
            for row, waited in gone:
                if waited:
                    self._quotas.taken(row.sender, key_of(row.mailbox), row.size)
                self._quotas.forgotten(row.sender, key_of(row.mailbox))
            self._remove([row for row, waited in gone if waited])
        if unread := [name for name, (_, opened, _) in self._open.items() if now - opened > UNREAD]:
            await self._database.write(lambda connection: rows.close_mailboxes(connection, unread))
            for name in unread:
                del self._open[name]
                self._held[key_of(name)] -= 1

    def _remove(self, gone: list[LetterRow]) -> None:
        for row in gone:
            if row.size > INLINE:
                self._blobs.named(_file(row.mailbox, row.id)).unlink(missing_ok=True)


def _together(wait: float) -> float:
    """A long wait, cut so that it ends when others do: the process is woken for all of them at once."""
    if wait < 2 * TICK:
        return wait
    return wait - (asyncio.get_running_loop().time() + wait) % TICK


def _own(mailbox: str, caller: Caller) -> None:
    if caller.id is None or caller.id != key_of(mailbox):
        raise NotAllowed("only its holder may read a mailbox")


def _mark(prekey: bytes) -> bytes:
    return sha256(prekey).digest()[:8]


def _place(mailbox: str, letter: str, caller: Caller) -> str:
    return f"{caller.id}/{mailbox}/{letter}"


def _file(mailbox: str, letter: str) -> str:
    """The name of a letter's file: the same letter may be in two mailboxes of one holder."""
    return sha256(f"{mailbox}/{letter}".encode()).hexdigest()


async def _read(path: Path, begin: int, end: int) -> AsyncIterator[bytes]:
    with path.open("rb", buffering=0) as file:
        file.seek(begin)
        while begin < end and (block := file.read(min(BLOCK, end - begin))):
            begin += len(block)
            yield block
