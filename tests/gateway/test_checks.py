from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from urllib.parse import parse_qs, urlsplit

import pytest

from grid.crypto.identity import Identity
from grid.gateway.ask import Answer
from grid.gateway.checks import Checks
from grid.gateway.register import Register
from grid.transport.hello import health_statement
from grid.wire.directory import Renew
from tests.gateway.fakes import START, Clock, Key, MemoryStore, open_world, rfc

ALICE = Key(1)


class Pings:
    """What answers to health checks: `status` and `body`, or nothing at all."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Answer | None = Answer(200, b"{}", 0.01)
        self.signer: Identity | None = None
        self.under_way = self.most_under_way = 0

    async def __call__(self, method: str, url: str, body: bytes | None = None, *, deadline: float) -> Answer | None:
        self.asked.append(url)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        return self.echo(url, self.signer) if self.signer else self.answer

    def echo(self, url: str, signer: Identity) -> Answer:
        nonce = parse_qs(urlsplit(url).query)["nonce"][0]
        signature = b64encode(signer.sign("health", health_statement("node", "alice", nonce))).decode()
        echo = {"status": "online", "node-id": "alice", "at": 1.0, "signature": signature}
        return Answer(200, json.dumps(echo).encode(), 0.01)


class Rounds:
    """A gateway's register and checks, swept by hand."""

    def __init__(self) -> None:
        self.clock, self.store, self.pings = Clock(), MemoryStore(), Pings()
        self.register = Register(self.store, open_world, self.clock, allow_unsigned=True)
        self.checks = Checks(self.register, self.pings, self.clock)

    async def sweep(self, after: float = 0.0) -> None:
        self.clock.passes(after)
        async with asyncio.TaskGroup() as group:
            await self.checks.sweep(group)

    def state(self, node_id: str) -> str | None:
        listed = self.register.roll.get(node_id)
        return listed.member.state.value if listed else None


@pytest.fixture
def rounds() -> Rounds:
    return Rounds()


async def test_a_newcomer_is_checked_at_once_and_then_every_interval(rounds: Rounds) -> None:
    await rounds.register.join(rfc("Bob"))

    await rounds.sweep()
    assert rounds.state("Bob") == "online"
    await rounds.sweep(after=29)
    assert len(rounds.pings.asked) == 1
    await rounds.sweep(after=2)
    assert len(rounds.pings.asked) == 2


async def test_checks_alone_keep_a_node_of_the_rfc_listed(rounds: Rounds) -> None:
    await rounds.register.join(rfc("Bob"))

    for _ in range(20):
        await rounds.sweep(after=30)
        rounds.register.lapse()

    assert rounds.state("Bob") == "online"


async def test_a_node_that_says_it_is_busy_is_busy(rounds: Rounds) -> None:
    await rounds.register.join(rfc("Bob"))
    rounds.pings.answer = Answer(200, b'{"status": "busy"}', 0.01)

    await rounds.sweep()

    assert rounds.state("Bob") == "busy"


async def test_a_node_that_falls_silent_is_suspect_then_offline_then_back(rounds: Rounds) -> None:
    await rounds.register.join(rfc("Bob"))
    await rounds.sweep()
    alive, rounds.pings.answer = rounds.pings.answer, None
    states = []
    for _ in range(3):
        await rounds.sweep(after=31)
        states.append(rounds.state("Bob"))
    rounds.pings.answer = alive
    await rounds.sweep(after=61)

    assert states == ["suspect", "suspect", "offline"]
    assert rounds.state("Bob") == "online"


async def test_the_dead_are_asked_less_and_less(rounds: Rounds) -> None:
    await rounds.register.join(rfc("Bob"))
    rounds.pings.answer = None
    for _ in range(3600):
        await rounds.sweep(after=1)

    assert len(rounds.pings.asked) < 25


async def test_a_signed_member_must_sign_the_checks_nonce(rounds: Rounds) -> None:
    await rounds.register.join(ALICE.join("alice"))
    rounds.pings.signer = ALICE.identity

    await rounds.sweep()

    assert rounds.state("alice") == "online"


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"{}", 0.01),
        Answer(200, b"<html>", 0.01),
        Answer(200, b'{"node-id": "alice", "signature": "' + b64encode(b"x" * 64) + b'"}', 0.01),
    ],
)
async def test_an_unsigned_echo_does_not_speak_for_a_signed_member(answer: Answer, rounds: Rounds) -> None:
    await rounds.register.join(ALICE.join("alice"))
    rounds.pings.answer = answer

    await rounds.sweep()

    assert rounds.state("alice") == "joining"


async def test_another_keys_echo_does_not_speak_for_a_signed_member(rounds: Rounds) -> None:
    await rounds.register.join(ALICE.join("alice"))
    rounds.pings.signer = Key(2).identity

    await rounds.sweep()

    assert rounds.state("alice") == "joining"


@pytest.mark.parametrize(("status", "state"), [(404, "online"), (401, "online"), (500, "joining"), (502, "joining")])
async def test_for_a_node_of_the_rfc_any_answer_but_an_error_of_its_own_will_do(
    status: int, state: str, rounds: Rounds
) -> None:
    await rounds.register.join(rfc("Bob"))
    rounds.pings.answer = Answer(status, b"Not Found", 0.01)

    await rounds.sweep()

    assert rounds.state("Bob") == state


async def test_a_node_behind_a_nat_lives_by_its_lease(rounds: Rounds) -> None:
    await rounds.register.join(ALICE.join("alice"))
    rounds.pings.answer = None
    for _ in range(20):
        rounds.register.renew(Renew("alice"), ALICE.id)
        await rounds.sweep(after=30)
        rounds.register.lapse()

    assert rounds.state("alice") == "online"


async def test_an_answer_that_comes_after_a_new_join_is_not_counted(rounds: Rounds) -> None:
    await rounds.register.join(ALICE.join("alice"))
    rounds.pings.signer = ALICE.identity
    async with asyncio.TaskGroup() as group:
        await rounds.checks.sweep(group)
        await rounds.register.join(ALICE.join("alice", address="http://moved.example", version=START + 1))

    assert rounds.state("alice") == "joining"
    await rounds.sweep()
    assert rounds.pings.asked[-1].startswith("http://moved.example/health-check?nonce=")
    assert rounds.state("alice") == "online"


async def test_an_rfc_node_that_joins_again_while_it_is_checked_is_checked_on(rounds: Rounds) -> None:
    await rounds.register.join(rfc("Bob"))
    async with asyncio.TaskGroup() as group:
        await rounds.checks.sweep(group)
        await rounds.register.join(rfc("Bob"))

    await rounds.sweep(after=31)

    assert rounds.state("Bob") == "online"


async def test_many_newcomers_are_checked_a_few_at_a_time(rounds: Rounds) -> None:
    for number in range(300):
        await rounds.register.join(rfc(f"n{number}", f"http://{number}.example"))
    await rounds.sweep()
    assert len(rounds.pings.asked) < 50
    for _ in range(10):
        await rounds.sweep(after=1)

    assert len(rounds.pings.asked) == 300
    assert rounds.pings.most_under_way <= 64


async def test_after_a_restart_everybody_is_checked(rounds: Rounds) -> None:
    await rounds.register.join(rfc("Bob"))
    again = Rounds()
    again.register = Register(rounds.store, open_world, again.clock, allow_unsigned=True)
    again.checks = Checks(again.register, again.pings, again.clock)
    await again.register.load()

    assert again.state("Bob") == "suspect"
    await again.sweep()
    assert again.state("Bob") == "online"


async def test_whoever_renews_is_checked_half_as_often(rounds: Rounds) -> None:
    rounds.pings.signer = ALICE.identity
    await rounds.register.join(ALICE.join("alice"))
    await rounds.sweep()
    rounds.register.renew(Renew("alice"), ALICE.id)

    await rounds.sweep(after=30)
    assert len(rounds.pings.asked) == 2
    await rounds.sweep(after=31)
    assert len(rounds.pings.asked) == 2
    await rounds.sweep(after=31)
    assert len(rounds.pings.asked) == 3


async def test_whoever_reads_a_mailbox_is_not_called() -> None:
    world = Rounds()
    hidden = f"http://gateway.example/v1/mailboxes/{ALICE.id}"
    await world.register.join(ALICE.join("alice", address=hidden))
    await world.sweep()
    assert world.pings.asked == []
    assert world.state("alice") == "joining"

    world.register.renew(Renew("alice"), ALICE.id)
    await world.sweep(after=40.0)
    assert world.pings.asked == []
    assert world.state("alice") == "online"
