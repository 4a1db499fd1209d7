"""Calls in letters, through a real gateway that loses, repeats and forgets."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import ClientSession

from grid.client.calls import Calls
from grid.client.letters import Answer, Body, Call, spool
from grid.client.mailbox import Waiting
from grid.client.relay import Relay
from grid.client.writing import MemoryPrekeys, open_relay
from grid.crypto.identity import Identity
from grid.wire.endpoint import Endpoint
from grid.wire.message import Message
from grid.wire.problems import BadSignature, NotAllowed, TooManyRequests, Unreachable
from grid.wire.relay import LETTERS, TAKE_LETTERS, Taken, mailbox_address
from grid.wire.runs import Events
from tests.gateway.conftest import gateway_at
from tests.transport.daemon import Daemon

ANN, BOB, EVE = (Identity.from_seed(name.encode().ljust(32)) for name in ("ann", "bob", "eve"))


class Word(Message, frozen=True):
    """What is said, and said back."""

    word: str


SAY = Endpoint("POST", "/say", Word, Word, who="signed")


@dataclass
class Echo:
    """Says back what it hears; keeps who said what. It answers once it `may`."""

    heard: list[tuple[bytes, bytes]] = field(default_factory=list)
    answered: set[str] = field(default_factory=set)
    may: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, sender: bytes, call: Call, body: Body) -> tuple[int, dict[str, str], Body]:
        said = await body.whole()
        self.heard.append((sender, said))
        await self.may.wait()
        file = spool()
        file.write(said)
        file.seek(0)
        return 200, {"Content-Type": "application/json"}, Body(file, len(said))

    async def has(self, letter: str) -> bool:
        return letter in self.answered

    async def add(self, letter: str, expires: float) -> None:
        self.answered.add(letter)


@dataclass
class Party:
    """Somebody who writes letters, and answers them with `echo`."""

    identity: Identity
    calls: Calls
    relay: Relay
    echo: Echo

    def box(self, gateway: str) -> str:
        return mailbox_address(gateway, self.relay.name)

    async def says(self, to: str, word: str = "hello") -> str:
        return (await self.calls.call(to, SAY, Word(word))).word


@asynccontextmanager
async def party(
    identity: Identity, http: ClientSession, echo: Echo | None = None, *, named: bool = False
) -> AsyncIterator[Party]:
    """`named`: its mailbox is that of the key itself, as a node's is."""
    calls = Calls(http, identity=identity)
    async with open_relay(calls, identity, time.time) as relay:
        if named:
            relay._label, relay.name = "", identity.id
        if echo is None:
            (echo := Echo()).may.set()
        relay.serves(echo, echo)
        yield Party(identity, calls, relay, echo)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[str]:
    async with gateway_at(tmp_path, clock=time.time) as address:  # type: ignore[arg-type]
        yield address


@pytest.fixture
async def ann(connections: ClientSession) -> AsyncIterator[Party]:
    async with party(ANN, connections) as ann:
        yield ann


@pytest.fixture
async def bob(connections: ClientSession, gateway: str) -> AsyncIterator[Party]:
    async with party(BOB, connections) as bob:
        await bob.relay.reads(gateway).opened.wait()
        yield bob


async def test_whoever_is_called_knows_who_calls(ann: Party, bob: Party, gateway: str) -> None:
    assert await ann.says(bob.box(gateway)) == "hello"
    assert bob.echo.heard == [(ANN.public, b'{"word":"hello"}')]


async def test_many_calls_are_under_way_at_once(ann: Party, bob: Party, gateway: str) -> None:
    bob.echo.may.clear()
    waiting = [asyncio.create_task(ann.says(bob.box(gateway), str(n))) for n in range(100)]
    async with asyncio.timeout(10):
        while len(bob.echo.heard) < 100:
            await asyncio.to_thread(lambda: None)
    bob.echo.may.set()

    assert await asyncio.gather(*waiting) == [str(n) for n in range(100)]


async def test_one_sender_has_only_so_many_calls_under_way(
    ann: Party, bob: Party, gateway: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grid.client.relay.EACH", 1)
    bob.echo.may.clear()
    first = asyncio.create_task(ann.says(bob.box(gateway), "first"))
    async with asyncio.timeout(10):
        while not bob.echo.heard:
            await asyncio.to_thread(lambda: None)
        with pytest.raises(TooManyRequests):
            await ann.says(bob.box(gateway), "second")
        bob.echo.may.set()
        assert await first == "first"


async def test_letters_that_were_answered_are_taken_out(ann: Party, bob: Party, gateway: str) -> None:
    await ann.says(bob.box(gateway))
    async with asyncio.timeout(10):
        for party in (ann, bob):
            while (await _waits(party, gateway)).events:
                await asyncio.to_thread(lambda: None)


async def test_a_gateway_that_delivers_a_letter_again_changes_nothing(ann: Party, bob: Party, gateway: str) -> None:
    bob.echo.may.clear()
    saying = asyncio.create_task(ann.says(bob.box(gateway)))
    async with asyncio.timeout(10):
        while not (kept := (await _waits(bob, gateway)).events):
            await asyncio.to_thread(lambda: None)
    again = Waiting(bob.calls, gateway, bob.relay.name, kept[0])
    while not bob.echo.heard:
        await asyncio.to_thread(lambda: None)
    await bob.relay._heard(again)  # while it is being answered
    bob.echo.may.set()
    await saying
    while not bob.echo.answered:
        await asyncio.to_thread(lambda: None)
    await bob.relay._heard(again)

    assert len(bob.echo.heard) == 1


async def test_a_call_that_was_not_answered_is_answered_after_a_restart(
    ann: Party, connections: ClientSession, gateway: str
) -> None:
    dead, alive = Echo(), Echo()
    alive.may.set()
    async with AsyncExitStack() as stack:
        bob = await stack.enter_async_context(party(BOB, connections, dead, named=True))
        prekeys = bob.relay._prekeys
        await bob.relay.reads(gateway).opened.wait()
        saying = asyncio.create_task(ann.says(mailbox_address(gateway, BOB.id)))
        async with asyncio.timeout(10):
            while not dead.heard:
                await asyncio.to_thread(lambda: None)
    async with party(BOB, connections, alive, named=True) as again:
        again.relay._prekeys = prekeys
        again.relay.reads(gateway)
        assert await saying == "hello"
    assert len(alive.heard) == 1


async def test_an_answer_of_somebody_else_is_not_taken(ann: Party, bob: Party, gateway: str) -> None:
    bob.echo.may.clear()
    saying = asyncio.create_task(ann.says(bob.box(gateway)))
    async with asyncio.timeout(10):
        while not bob.echo.heard:
            await asyncio.to_thread(lambda: None)
    (letter,) = ann.relay._asked
    forged = spool()
    ann.relay._give(EVE.public, Answer(letter, 200, {}), Body(forged, 0))
    assert not saying.done()
    bob.echo.may.set()
    assert await saying == "hello"


async def test_whoever_waits_in_vain_hears_so(ann: Party, bob: Party, gateway: str) -> None:
    bob.echo.may.clear()
    with pytest.raises(Unreachable, match="in time"):
        await ann.calls.call(bob.box(gateway), SAY, Word("hello"), deadline=-29.5)
    assert not ann.relay._asked


async def test_a_gateway_that_was_away_and_forgot_everything_is_no_harm(
    ann: Party, connections: ClientSession, tmp_path: Path
) -> None:
    async with party(BOB, connections) as bob:
        async with gateway_at(tmp_path / "first", clock=time.time) as gateway:  # type: ignore[arg-type]
            await bob.relay.reads(gateway).opened.wait()
            assert await ann.says(bob.box(gateway)) == "hello"
        with pytest.raises(Unreachable):
            await ann.says(bob.box(gateway))
        port = int(gateway.rpartition(":")[2])
        async with gateway_at(tmp_path / "second", clock=time.time, port=port):  # type: ignore[arg-type]
            async with asyncio.timeout(15):
                while True:
                    try:
                        assert await ann.says(bob.box(gateway), "again") == "again"
                        break
                    except Unreachable:
                        await asyncio.to_thread(lambda: None)


async def test_a_gateway_that_hands_out_another_key_is_found_out(
    ann: Party, bob: Party, gateway: str, tmp_path: Path
) -> None:
    forged = prekey_of(EVE)
    with closing(sqlite3.connect(tmp_path / "gateway.db")) as database, database:
        database.execute("UPDATE mailboxes SET prekey = ?", (forged,))
    with pytest.raises(BadSignature):
        await ann.says(bob.box(gateway))
    assert bob.echo.heard == []


def prekey_of(identity: Identity) -> bytes:
    """A prekey that this one published."""
    return MemoryPrekeys(identity, time.time).published()


async def test_only_its_holder_takes_letters_out(ann: Party, bob: Party, gateway: str) -> None:
    await ann.relay.reads(gateway).opened.wait()
    with pytest.raises(NotAllowed):
        await ann.calls.call(gateway, TAKE_LETTERS, Taken(("0" * 64,)), mailbox=bob.relay.name)


# --- where nobody can be connected to -------------------------------------------------------------


@pytest.fixture
async def walled(connections: ClientSession, gateway: str) -> AsyncIterator[Party]:
    """Bob, to whom nobody can connect, and who reads his letters."""
    async with party(BOB, connections, named=True) as bob:
        bob.echo.may.set()
        await bob.relay.reads(gateway).opened.wait()
        yield bob


@pytest.fixture
def nowhere() -> str:
    """An address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


async def _say(party: Party, at: str, word: str = "hello") -> str:
    return (await party.calls.call(at, SAY, Word(word), peer=BOB.public)).word


async def test_a_letter_goes_where_nobody_can_be_connected_to(
    ann: Party, walled: Party, gateway: str, nowhere: str
) -> None:
    ann.relay.gateways = (gateway,)
    assert [await _say(ann, nowhere, word) for word in ("one", "two")] == ["one", "two"]
    assert len(walled.echo.heard) == 2


async def test_without_a_gateway_in_common_there_is_no_other_way(ann: Party, walled: Party, nowhere: str) -> None:
    with pytest.raises(Unreachable):
        await _say(ann, nowhere)
    assert walled.echo.heard == []


async def test_what_may_have_been_heard_is_not_said_again_in_a_letter(ann: Party, walled: Party, gateway: str) -> None:
    ann.relay.gateways = (gateway,)

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        with pytest.raises(Unreachable):
            await _say(ann, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert walled.echo.heard == []


async def test_letters_wait_for_nobody_who_does_not_listen(
    ann: Party, connections: ClientSession, gateway: str, nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grid.client.relay.SILENT", 0.0)
    ann.relay.gateways = (gateway,)
    async with party(BOB, connections, named=True) as bob:
        await bob.relay.reads(gateway).opened.wait()
    async with asyncio.timeout(5):
        with pytest.raises(Unreachable, match="Connect"):
            await _say(ann, nowhere)


async def test_a_mailbox_that_is_gone_is_looked_for_elsewhere(
    ann: Party, walled: Party, gateway: str, nowhere: str, tmp_path: Path
) -> None:
    ann.relay.gateways = (gateway,)
    async with gateway_at(tmp_path / "another", clock=time.time) as another:  # type: ignore[arg-type]
        ann.relay._instead[BOB.public, nowhere] = mailbox_address(another, BOB.id), time.time() + 60
        assert await _say(ann, nowhere) == "hello"
    assert ann.relay.instead(BOB.public, nowhere) == mailbox_address(gateway, BOB.id)
    assert len(walled.echo.heard) == 1


async def test_a_letter_that_was_posted_is_not_said_again_directly(
    ann: Party, walled: Party, gateway: str, daemon: Daemon
) -> None:
    ann.relay._instead[BOB.public, daemon.address] = mailbox_address(gateway, BOB.id), time.time() + 60
    walled.echo.may.clear()
    with pytest.raises(Unreachable, match="in time"):
        await ann.calls.call(daemon.address, SAY, Word("hello"), peer=BOB.public, deadline=-29.5)
    assert len(walled.echo.heard) == 1
    assert ann.relay.instead(BOB.public, daemon.address) is None  # the next call tries the address again


async def _waits(party: Party, gateway: str) -> Events:
    return await party.calls.call(gateway, LETTERS, mailbox=party.relay.name)
