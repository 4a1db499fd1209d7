"""Calls in letters, through a real gateway that loses, repeats and forgets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import ClientSession

from grid.client.calls import Calls
from grid.client.letters import Answer, Body, Call, spool
from grid.client.mailbox import Waiting
from grid.client.relay import Relay, open_relay
from grid.crypto.identity import Identity
from grid.wire.endpoint import Endpoint
from grid.wire.message import Message
from grid.wire.problems import NotAllowed, Unreachable
from grid.wire.relay import LETTERS, TAKE_LETTERS, Taken, mailbox_address
from grid.wire.runs import Events
from tests.gateway.conftest import gateway_at

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
async def party(identity: Identity, http: ClientSession, echo: Echo | None = None) -> AsyncIterator[Party]:
    calls = Calls(http, identity=identity)
    async with open_relay(calls, identity, time.time) as relay:
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
        bob = await stack.enter_async_context(party(BOB, connections, dead))
        bob.relay._label, bob.relay.name = "", BOB.id
        prekeys = bob.relay._prekeys
        await bob.relay.reads(gateway).opened.wait()
        saying = asyncio.create_task(ann.says(mailbox_address(gateway, BOB.id)))
        async with asyncio.timeout(10):
            while not dead.heard:
                await asyncio.to_thread(lambda: None)
    async with party(BOB, connections, alive) as again:
        again.relay._label, again.relay.name, again.relay._prekeys = "", BOB.id, prekeys
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


async def test_only_its_holder_takes_letters_out(ann: Party, bob: Party, gateway: str) -> None:
    await ann.relay.reads(gateway).opened.wait()
    with pytest.raises(NotAllowed):
        await ann.calls.call(gateway, TAKE_LETTERS, Taken(("0" * 64,)), mailbox=bob.relay.name)


async def _waits(party: Party, gateway: str) -> Events:
    return await party.calls.call(gateway, LETTERS, mailbox=party.relay.name)
