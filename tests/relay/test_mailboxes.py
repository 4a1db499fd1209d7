"""Mailboxes of a real gateway: posted, heard of, fetched, taken, forgotten."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from grid.client import handing_in
from grid.client.calls import Calls
from grid.client.core import Request
from grid.client.egress import PROBES, Egress, open_http, probe
from grid.client.handing_in import hand_in
from grid.client.payload import gather, once
from grid.crypto.envelope import Header
from grid.crypto.identity import Identity
from grid.crypto.prekeys import Prekey, publish, read_published
from grid.crypto.sealing import open_bytes, seal_bytes
from grid.relay.mailboxes import TICK, _together
from grid.wire.node import Published
from grid.wire.problems import (
    BadRequest,
    BadSignature,
    EnvelopeRefused,
    LetterRepeated,
    MailboxFull,
    MailboxUnknown,
    NotAllowed,
    NotFound,
    QuotaSpent,
)
from grid.wire.relay import (
    INLINE,
    LETTER,
    LETTER_HELD,
    LETTERS,
    LONGEST_WAIT,
    MAILBOX,
    OPEN_MAILBOX,
    POST_LETTER,
    TAKE_LETTERS,
    Posted,
    Taken,
    mailbox_address,
)
from grid.wire.runs import After, Event
from tests.cutting import a_line
from tests.gateway.conftest import gateway_at
from tests.gateway.fakes import START, Clock

ANN, BOB, EVE = (Identity.from_seed(name.encode().ljust(32)) for name in ("ann", "bob", "eve"))
CallsOf = Callable[[Identity], Calls]
BIG = 3_000_000


class Person:
    """A key with its calls to a gateway, and a mailbox there."""

    def __init__(self, identity: Identity, calls: Calls, gateway: str) -> None:
        self.identity, self.calls, self.gateway, self.box = identity, calls, gateway, identity.id
        self.prekey = Prekey.generate()
        self.published = publish(identity, self.prekey, START, START + 3600)

    async def open(self, box: str = "") -> None:
        await self.calls.call(self.gateway, OPEN_MAILBOX, Published(self.published), mailbox=box or self.box)

    def letter(self, to: Person, payload: bytes = b"hello", **header: Any) -> bytes:
        meant = {"audience": to.identity.public, "created": int(START), "expires": int(START + 600)} | header
        whole = Header(sender=self.identity.public, kind="call", **meant)
        recipient = read_published(to.published, to.identity.public, START)
        return seal_bytes(self.identity, whole, payload, [recipient])

    async def post(self, to: str, letter: bytes, name: str = "") -> Posted:
        digest = name or sha256(letter).hexdigest()
        return await self.calls.upload(
            self.gateway, POST_LETTER, once(letter), length=len(letter), mailbox=to, letter=digest
        )

    async def hears(self, after: int = 0, wait: float = 0.0, box: str = "") -> tuple[Event, ...]:
        query = After(after, wait)
        return (await self.calls.call(self.gateway, LETTERS, query=query, mailbox=box or self.box)).events

    async def takes(self, *letters: str) -> None:
        await self.calls.call(self.gateway, TAKE_LETTERS, Taken(letters), mailbox=self.box)

    def opens(self, envelope: bytes) -> bytes:
        find = {self.prekey.id: self.prekey}.get
        return open_bytes(envelope, self.identity.public, find, lambda _: None, START)[1]


@pytest.fixture
async def ann(gateway: str, calls_of: CallsOf) -> Person:
    return Person(ANN, calls_of(ANN), gateway)


@pytest.fixture
async def bob(gateway: str, calls_of: CallsOf) -> Person:
    bob = Person(BOB, calls_of(BOB), gateway)
    await bob.open()
    return bob


@pytest.fixture
def eve(gateway: str, calls_of: CallsOf) -> Person:
    return Person(EVE, calls_of(EVE), gateway)


# --- from hand to hand --------------------------------------------------------------------------


async def test_a_letter_reaches_the_one_it_is_sealed_to(ann: Person, bob: Person) -> None:
    known = await ann.calls.call(ann.gateway, MAILBOX, mailbox=bob.box)
    assert known.prekey == bob.published
    letter = ann.letter(bob, b"come")
    await ann.post(bob.box, letter)

    (event,) = await bob.hears()
    assert event.data["letter"] == sha256(letter).hexdigest()
    assert bob.opens(base64.b64decode(event.data["body"])) == b"come"


async def test_whoever_waits_hears_of_it_at_once(ann: Person, bob: Person) -> None:
    waiting = asyncio.create_task(bob.hears(wait=20.0))
    await ann.post(bob.box, ann.letter(bob))

    async with asyncio.timeout(5):
        assert len(await waiting) == 1


async def test_the_line_of_a_listener_is_looked_after(bob: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener who is gone without a word is noticed in a minute, though it asked for an hour."""
    lines: list[socket.socket] = []
    monkeypatch.setattr("grid.relay.app.probe", lambda line: (probe(line), lines.append(line)))

    async with asyncio.timeout(5):
        await bob.hears()

    (line,) = lines
    assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert [line.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in PROBES] == list(PROBES.values())


async def test_nobody_listens_for_more_than_an_hour(bob: Person) -> None:
    with pytest.raises(BadRequest):
        await bob.calls.call(bob.gateway, LETTERS, query=After(wait=LONGEST_WAIT + 1), mailbox=bob.box)


async def test_long_waits_end_together_and_short_ones_when_they_should(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    ends = set()
    for began in (1000.0, 1007.5, 1029.9):
        monkeypatch.setattr(loop, "time", lambda began=began: began)
        assert _together(25.0) == 25.0
        assert LONGEST_WAIT - TICK < _together(LONGEST_WAIT) <= LONGEST_WAIT
        ends.add(began + _together(LONGEST_WAIT))
    assert ends == {4590.0, 4620.0}


async def test_a_websocket_tells_of_it_as_well(ann: Person, bob: Person, http: aiohttp.ClientSession) -> None:
    sent = {"Authorization": await _signed(bob, f"/v1/mailboxes/{bob.box}/letters")}
    async with http.ws_connect(f"{bob.gateway}/v1/mailboxes/{bob.box}/letters", headers=sent) as socket:
        letter = ann.letter(bob)
        await ann.post(bob.box, letter)
        told = await socket.receive_json(timeout=5)

    assert told["data"]["letter"] == sha256(letter).hexdigest()


async def test_what_was_taken_is_gone_and_is_not_taken_in_again(ann: Person, bob: Person) -> None:
    letter = ann.letter(bob)
    await ann.post(bob.box, letter)
    await bob.takes(sha256(letter).hexdigest())

    assert await bob.hears() == ()
    with pytest.raises(LetterRepeated):
        await ann.post(bob.box, letter)
    assert await bob.hears() == ()


async def test_the_same_letter_twice_is_one_letter(ann: Person, bob: Person) -> None:
    letter = ann.letter(bob)
    await ann.post(bob.box, letter)
    with pytest.raises(LetterRepeated):
        await ann.post(bob.box, letter)

    assert len(await bob.hears()) == 1


async def test_one_key_reads_in_several_places(ann: Person, bob: Person) -> None:
    notebook = f"{bob.box}.notebook"
    await bob.open(notebook)
    await ann.post(notebook, ann.letter(bob))

    assert await bob.hears() == ()
    assert len(await bob.hears(box=notebook)) == 1


# --- large ones ---------------------------------------------------------------------------------


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing_in, "PAUSES", (0.05, 0.1, 0.1, 0.1))


@pytest.mark.usefixtures("no_pauses")
async def test_a_large_letter_goes_on_where_its_line_broke_both_ways(ann: Person, bob: Person, tmp_path: Path) -> None:
    payload = bytes(range(256)) * (BIG // 256)
    letter, file = ann.letter(bob, payload), tmp_path / "letter"
    file.write_bytes(letter)
    where = {"mailbox": bob.box, "letter": sha256(letter).hexdigest()}
    async with a_line(ann.gateway) as line:
        line.cut("up", 1_500_000, 1_000_000)
        await hand_in(ann.calls, line.address, POST_LETTER, LETTER_HELD, file, content=where["letter"], **where)
        assert BIG < line.moved["up"] < 1.3 * BIG
        (event,) = await bob.hears()
        assert event.data == {"letter": where["letter"], "size": len(letter)}
        line.cut("down", 1_500_000)
        async with bob.calls.download(line.address, LETTER, **where) as (_, blocks):
            assert bob.opens(await gather(blocks, 2 * BIG)) == payload
    await bob.takes(where["letter"])

    with pytest.raises(NotFound):
        async with bob.calls.download(bob.gateway, LETTER, **where):
            pass


async def test_a_reader_that_stands_still_delays_nobody(ann: Person, bob: Person) -> None:
    letter = ann.letter(bob, bytes(BIG))
    await ann.post(bob.box, letter)
    name = sha256(letter).hexdigest()
    async with bob.calls.download(bob.gateway, LETTER, mailbox=bob.box, letter=name) as (_, blocks):
        await anext(blocks)  # and no more of it
        async with asyncio.timeout(5):
            for n in range(20):
                await ann.post(bob.box, ann.letter(bob, b"%d" % n))
            assert len(await bob.hears()) == 21


# --- refused ------------------------------------------------------------------------------------


async def test_a_mailbox_that_nobody_reads_takes_nothing(ann: Person, eve: Person) -> None:
    with pytest.raises(MailboxUnknown):
        await ann.post(eve.box, ann.letter(eve))
    with pytest.raises(MailboxUnknown):
        await ann.calls.call(ann.gateway, MAILBOX, mailbox=eve.box)


async def test_only_its_holder_reads_opens_and_empties_a_mailbox(ann: Person, bob: Person, eve: Person) -> None:
    letter = ann.letter(bob)
    await ann.post(bob.box, letter)
    digest = sha256(letter).hexdigest()

    with pytest.raises(NotAllowed):
        await eve.hears(box=bob.box)
    with pytest.raises(NotAllowed):
        await eve.open(bob.box)
    with pytest.raises(NotAllowed):
        await eve.calls.call(eve.gateway, TAKE_LETTERS, Taken((digest,)), mailbox=bob.box)
    with pytest.raises(NotAllowed):
        async with eve.calls.download(eve.gateway, LETTER, mailbox=bob.box, letter=digest):
            pass
    assert len(await bob.hears()) == 1


async def test_a_prekey_that_its_holder_did_not_sign_opens_nothing(bob: Person, eve: Person) -> None:
    with pytest.raises(BadSignature):
        await bob.calls.call(bob.gateway, OPEN_MAILBOX, Published(eve.published), mailbox=bob.box)


async def test_letters_that_are_not_what_they_should_be_are_not_kept(ann: Person, bob: Person, eve: Person) -> None:
    letter = ann.letter(bob)
    with pytest.raises(EnvelopeRefused, match="signed by the one"):
        await eve.post(bob.box, letter)
    with pytest.raises(EnvelopeRefused, match="not for the holder"):
        await ann.post(bob.box, ann.letter(eve))
    with pytest.raises(EnvelopeRefused, match="expired"):
        await ann.post(bob.box, ann.letter(bob, created=int(START - 60), expires=int(START)))
    with pytest.raises(EnvelopeRefused, match="bad-signature"):
        await ann.post(bob.box, letter[:-1] + bytes([letter[-1] ^ 1]))
    with pytest.raises(EnvelopeRefused, match="truncated"):
        await ann.post(bob.box, letter[:-1])
    with pytest.raises(BadRequest):
        await ann.post(bob.box, letter, name="0" * 64)
    assert await bob.hears() == ()


# --- bounds -------------------------------------------------------------------------------------


@pytest.fixture
async def narrow(tmp_path: Path) -> AsyncIterator[tuple[Person, Person, Clock]]:
    """Two at a gateway with room for 200,000 bytes, and the clock of all three."""
    clock = Clock()
    async with (
        gateway_at(tmp_path / "narrow", clock=clock, room=200_000) as address,
        open_http(Egress(allow_private=True)) as pool,
    ):
        ann, bob = (Person(each, Calls(pool, identity=each, now=clock), address) for each in (ANN, BOB))
        await bob.open()
        yield ann, bob, clock


def stored(tmp_path: Path) -> int:
    return len(list((tmp_path / "narrow" / "letters").glob("[!.]*/*")))


async def test_room_is_reserved_before_a_body_is_read_and_given_back(
    narrow: tuple[Person, Person, Clock], tmp_path: Path
) -> None:
    ann, bob, _ = narrow
    letter, untouched = ann.letter(bob, bytes(60_000)), once(ann.letter(bob, bytes(60_000)))
    await ann.post(bob.box, letter)
    with pytest.raises(QuotaSpent):
        await ann.calls.upload(
            ann.gateway, POST_LETTER, untouched, length=61_000, mailbox=bob.box, letter=sha256(b"").hexdigest()
        )
    assert [block async for block in untouched]  # nobody asked for it
    assert stored(tmp_path) == 1

    await bob.takes(sha256(letter).hexdigest())
    assert stored(tmp_path) == 0
    await ann.post(bob.box, ann.letter(bob, bytes(60_000)))


async def test_a_letter_whose_time_is_over_is_thrown_away(
    narrow: tuple[Person, Person, Clock], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob, clock = narrow
    await ann.post(bob.box, ann.letter(bob, bytes(60_000)))
    await ann.post(bob.box, ann.letter(bob, b"small"))
    assert len(await bob.hears()) == 2
    clock.passes(601)
    async with gateway_at(tmp_path / "narrow", clock=clock, room=200_000) as again:  # it looks when it starts
        bob.gateway = again
        async with asyncio.timeout(5):
            while await bob.hears():
                pass
    assert stored(tmp_path) == 0


async def test_letters_outlive_the_gateway_and_what_is_no_letter_does_not(
    narrow: tuple[Person, Person, Clock], tmp_path: Path
) -> None:
    ann, bob, clock = narrow
    await ann.post(bob.box, ann.letter(bob, bytes(INLINE)))
    (tmp_path / "narrow" / "letters" / "named" / "left-over").write_bytes(b"half a letter")
    async with gateway_at(tmp_path / "narrow", clock=clock, room=200_000) as again:
        ann.gateway = bob.gateway = again
        assert len(await bob.hears()) == 1
        with pytest.raises(MailboxFull):
            await Person(EVE, bob.calls, again).calls.upload(
                again, POST_LETTER, once(b""), length=90_000, mailbox=bob.box, letter="0" * 64
            )
    assert stored(tmp_path) == 1


async def test_a_gateway_that_ends_lets_go_of_those_who_listen(tmp_path: Path, calls_of: CallsOf) -> None:
    async with asyncio.timeout(10):
        async with gateway_at(tmp_path / "short") as address:
            bob = Person(BOB, calls_of(BOB), address)
            await bob.open()
            waiting = asyncio.create_task(bob.hears(wait=25.0))
            await bob.hears()
        assert await waiting == ()


def test_the_address_of_a_mailbox_says_so() -> None:
    assert mailbox_address("http://g:5000/", ANN.id) == f"http://g:5000/v1/mailboxes/{ANN.id}"


async def _signed(person: Person, target: str) -> str:
    sessions = person.calls._sessions
    assert sessions is not None
    return await sessions.authorize(person.gateway, None, Request("GET", target, {}, b""), sha256(b"").digest())
