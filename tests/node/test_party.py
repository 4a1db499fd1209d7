"""One secure sum between real parties and a coordinator in memory: what each checks, whoever lies."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from grid.crypto.identity import Identity
from grid.learning.masking import Quantiser, mask
from grid.learning.strategy import Masked
from grid.node import summing
from grid.node.lift import Place
from grid.node.party import Seeds, SumParty
from grid.node.summing import Summing
from grid.protocol import neighbours
from grid.protocol.documents import sign_document
from grid.protocol.secure_sum import Terms
from grid.wire.names import PublicKey
from grid.wire.problems import GridError, NoParticipants, RoundClosed, SumRefused
from grid.wire.runs import Task
from grid.wire.sums import CONSENT, DEAL, KEYS, REVEAL, SURVIVED, TELL_KEYS, Dealt, Revealed, Roster, SumKeys, Survivors

RULE, NUMBERS = Masked(bound=1.0), 1000
MODEL = hashlib.sha256(b"model").hexdigest()
TASK = Task(
    run="a" * 32, plan="b" * 64, coordinator=Identity.from_seed(b"c" * 32).id, tags=("#t",), created=0, expires=9
)
TERMS = Terms()
Lie = Callable[[Any], Any]


@dataclass
class Records:
    """What was revealed, as `RunRecords` keeps it."""

    kept: dict[tuple[str, int, str], list[str]] = field(default_factory=dict)

    async def revealed(self, run: str, number: int, key: str, survivors: list[str]) -> None:
        if self.kept.setdefault((run, number, key), survivors) != survivors:
            raise SumRefused("this node revealed its shares for other survivors of this round")


@dataclass
class Means:
    """As much of a node's means as a party needs."""

    identity: Identity
    records: Records
    terms: Terms


@dataclass
class Line:
    """A party's way to the coordinator. `lies` change answers on their way back, by path; `loses` what is not sent."""

    summing: Summing
    node: PublicKey
    lies: dict[str, Lie] = field(default_factory=dict)
    loses: set[str] = field(default_factory=set)

    async def ask(self, endpoint: Any, message: Any, number: int, sum_: int) -> Any:
        if endpoint.path in self.loses:
            await asyncio.Event().wait()
        place = Place(number, sum_)
        ask = {
            TELL_KEYS.path: lambda: self.summing.keys(place, self.node, message),
            DEAL.path: lambda: self.summing.deal(place, self.node, message),
            SURVIVED.path: lambda: self.summing.survived(place, self.node),
            CONSENT.path: lambda: self.summing.consent(place, self.node, message),
            REVEAL.path: lambda: self.summing.reveal(place, self.node, message),
        }[endpoint.path]
        answer = await ask()
        return self.lies.get(endpoint.path, lambda same: same)(answer)


class Gathering:
    """So many nodes and their coordinator, in round 1. Each one's vector is its place among them, a thousand times."""

    def __init__(self, count: int) -> None:
        self.identities = sorted((Identity.generate() for _ in range(count)), key=lambda each: each.id)
        self.ids = [each.id for each in self.identities]
        self.summing = Summing(TASK, RULE, NUMBERS)
        self.records = Records()
        self.summing.begin(1, frozenset(self.ids), MODEL)
        self.place = Place(1, self.summing.id)
        self.lines = [Line(self.summing, each) for each in self.ids]
        self.parties = [self.party(at) for at in range(count)]
        self.quantiser = Quantiser(RULE.bound, count)
        self.total = np.zeros(NUMBERS, np.uint32)

    def party(self, at: int, terms: Terms = TERMS, task: Task = TASK) -> SumParty:
        means: Any = Means(self.identities[at], self.records, terms)
        line: Any = self.lines[at]
        return SumParty(means, line, task, self.place, RULE, NUMBERS)

    async def agree(self, *absent: int) -> list[Any]:
        """All but some agree; each one's seeds, or why it will not."""
        return await asyncio.gather(
            *(party.agree(MODEL) for at, party in enumerate(self.parties) if at not in absent), return_exceptions=True
        )

    def hand_in(self, at: int, seeds: Seeds) -> np.ndarray:
        vector = self.quantiser.quantise(np.full(NUMBERS, at / 10, np.float32), np.random.default_rng(at))
        mask(vector, seeds.added, seeds.subtracted)
        self.total += vector
        self.parties[at].sent()
        return vector

    async def lifted(self, *survivors: int, silent: tuple[int, ...] = ()) -> np.ndarray:
        """The mean that the coordinator gets when these are in the sum, and some of them reveal nothing."""
        telling = [asyncio.create_task(self.parties[at].reveal()) for at in survivors if at not in silent]
        try:
            lift = await self.summing.lift(frozenset(self.ids[at] for at in survivors))
        finally:
            await asyncio.gather(*telling, return_exceptions=True)
        total = self.total.copy()
        mask(total, lift.added, lift.subtracted)
        return self.quantiser.mean(total, len(survivors))


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is waited for longer than a test takes."""
    monkeypatch.setattr(summing, "STEP", 0.5)
    monkeypatch.setattr(summing, "SOON", 0.05)


async def agreed(count: int = 5, *absent: int) -> tuple[Gathering, dict[int, Seeds]]:
    """A gathering in which all but some have agreed."""
    gathering = Gathering(count)
    here = [at for at in range(count) if at not in absent]
    return gathering, dict(zip(here, await gathering.agree(*absent), strict=True))


@pytest.mark.parametrize("gone", [(), (4,)], ids=["nobody", "one"])
@pytest.mark.parametrize("step", ["keys", "vectors", "reveal"])
async def test_the_sum_is_that_of_the_survivors_whoever_is_gone(gone: tuple[int, ...], step: str) -> None:
    gathering, seeds = await agreed(5, *(gone if step == "keys" else ()))
    inside = [at for at in seeds if step != "vectors" or at not in gone]
    for at in inside:
        gathering.hand_in(at, seeds[at])

    mean = await gathering.lifted(*inside, silent=gone if step == "reveal" else ())

    np.testing.assert_allclose(mean, np.mean(inside) / 10, atol=1e-7)


async def test_one_that_is_gone_while_shares_are_dealt_is_left_out() -> None:
    gathering = Gathering(5)
    gathering.lines[4].loses.add(DEAL.path)
    lost = asyncio.create_task(gathering.parties[4].agree(MODEL))
    seeds = await gathering.agree(4)
    for at in range(4):
        gathering.hand_in(at, seeds[at])

    np.testing.assert_allclose(await gathering.lifted(0, 1, 2, 3), 0.15, atol=1e-7)
    lost.cancel()


@pytest.mark.parametrize("silent", [(0, 1)])
async def test_fewer_than_the_threshold_cannot_lift_a_mask(silent: tuple[int, ...]) -> None:
    gathering, seeds = await agreed(5)
    for at in seeds:
        gathering.hand_in(at, seeds[at])

    with pytest.raises(NoParticipants, match="a secure sum needs 4"):
        await gathering.lifted(0, 1, 2, 3, 4, silent=silent)


async def test_wrong_shares_of_one_node_are_found_out_and_done_without() -> None:
    gathering, seeds = await agreed(5)
    for at in seeds:
        gathering.hand_in(at, seeds[at])
    own = gathering.parties[0]._held
    gathering.parties[0]._held = {key: (bytes(33), bytes(33)) for key in own}

    mean = await gathering.lifted(0, 1, 2, 3, 4)

    np.testing.assert_allclose(mean, 0.2, atol=1e-7)


@pytest.fixture
def sparse(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forty nodes count as many here: three hundred take most of a minute in one process."""
    monkeypatch.setattr(neighbours, "COMPLETE", 20)
    neighbours.spread_over.cache_clear()
    yield
    neighbours.spread_over.cache_clear()


async def many(count: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """So many sum with a few neighbours each though some are gone; how many masks each puts on."""
    monkeypatch.setattr(summing, "STEP", 60.0)  # everybody answers, in one process
    monkeypatch.setattr(summing, "SOON", 10.0)
    gathering, seeds = await agreed(count)
    inside = [at for at in seeds if at % 10]
    for at in inside:
        gathering.hand_in(at, seeds[at])

    mean = await gathering.lifted(*inside)

    np.testing.assert_allclose(mean, np.mean([min(at / 10, 1.0) for at in inside]), atol=1e-5)
    (masks,) = {len(each.added) + len(each.subtracted) for each in seeds.values()}
    return masks


@pytest.mark.usefixtures("sparse")
async def test_among_many_a_sum_needs_a_few_neighbours_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await many(40, monkeypatch) == 17


@pytest.mark.slow
async def test_three_hundred_nodes_sum_with_ninety_neighbours_each(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await many(300, monkeypatch) == 91


@pytest.mark.usefixtures("sparse")
async def test_among_many_shares_for_others_than_neighbours_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    gathering = Gathering(40)
    seeds = await gathering.agree()
    dealt = gathering.summing._said.dealt[gathering.ids[0]]

    with pytest.raises(SumRefused, match="or of one's neighbours"):
        await gathering.summing.deal(gathering.place, gathering.ids[0], Dealt(dict.fromkeys(gathering.ids, b"s" * 16)))
    assert (len(dealt), len(seeds)) == (16, 40)


# --- what a node refuses --------------------------------------------------------------------------


def _another_key(roster: Roster) -> Roster:
    """The coordinator puts in a key of its own for the first node, which signed nothing of the kind."""
    forged = replace(roster.keys[0], payload=roster.keys[1].payload)
    return replace(roster, keys=(forged, *roster.keys[1:]))


def _twice(roster: Roster) -> Roster:
    return replace(roster, keys=(*roster.keys, roster.keys[-1]))


def _without_me(roster: Roster) -> Roster:
    return replace(roster, keys=roster.keys[:-1])


def _two_of_us(roster: Roster) -> Roster:
    return replace(roster, keys=roster.keys[-2:], threshold=2)


def _low(roster: Roster) -> Roster:
    return replace(roster, threshold=2)


def _in_another_model(roster: Roster) -> Roster:
    other = Identity.generate()
    told = SumKeys(TASK.run, 1, 1, b"m" * 32, b"s" * 32, "0" * 64, hashlib.sha256(b"other").hexdigest())
    return replace(roster, keys=(*roster.keys, sign_document(other, KEYS, told)))


@pytest.mark.parametrize("lie", [_another_key, _twice, _without_me, _two_of_us, _low, _in_another_model])
async def test_a_node_deals_no_shares_in_a_roster_that_does_not_hold(lie: Lie) -> None:
    gathering = Gathering(5)
    gathering.lines[4].lies[TELL_KEYS.path] = lie

    *_, refused = await gathering.agree()

    assert isinstance(refused, GridError)
    assert gathering.ids[4] not in gathering.summing._sum.dealers


@pytest.mark.parametrize("terms", [Terms(nodes=6), Terms(colluding=4)])
async def test_a_node_takes_part_on_its_owners_terms_alone(terms: Terms) -> None:
    gathering = Gathering(5)
    gathering.parties[4] = gathering.party(4, terms)

    *_, refused = await gathering.agree()

    assert isinstance(refused, SumRefused)


async def test_where_sums_are_noised_a_node_insists_on_as_many_as_the_noise_was_reckoned_for() -> None:
    gathering = Gathering(5)
    rule = Masked(bound=1.0, clip=1.0, noise=1.0, least=6)
    means: Any = Means(gathering.identities[4], gathering.records, TERMS)
    line: Any = gathering.lines[4]
    gathering.parties[4] = SumParty(means, line, TASK, gathering.place, rule, NUMBERS)

    *_, refused = await gathering.agree()

    assert isinstance(refused, SumRefused)


async def test_nodes_that_were_told_of_different_noise_do_not_sum() -> None:
    gathering = Gathering(4)
    gathering.parties[3] = gathering.party(3, task=replace(TASK, strategy={"upload": {"noise": 9.0}}))

    refused = await gathering.agree()

    assert {type(why) for why in refused} == {SumRefused}


async def test_a_node_that_was_sent_another_model_is_not_taken_in() -> None:
    gathering = Gathering(5)

    with pytest.raises(SumRefused, match="another model"):
        await gathering.parties[0].agree(hashlib.sha256(b"other").hexdigest())


async def test_shares_that_were_changed_on_their_way_are_refused() -> None:
    gathering = Gathering(5)
    gathering.lines[4].lies[DEAL.path] = lambda got: replace(
        got, shares={node: sealed[:-1] + bytes([sealed[-1] ^ 1]) for node, sealed in got.shares.items()}
    )

    *_, refused = await gathering.agree()

    assert isinstance(refused, SumRefused)


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        (lambda nodes: nodes[:3], "survived"),
        (lambda nodes: (*nodes, Identity.generate().id), "not among those who dealt"),
        (lambda nodes: nodes[:-1], "left out"),
    ],
    ids=["too few", "a stranger", "without it"],
)
async def test_a_node_consents_to_no_survivors_that_it_cannot_answer_for(lie: Lie, why: str) -> None:
    gathering, seeds = await agreed(5)
    for at in seeds:
        gathering.hand_in(at, seeds[at])
    gathering.lines[4].lies[SURVIVED.path] = lambda told: Survivors(tuple(lie(told.nodes)))
    lifting = asyncio.create_task(gathering.lifted(0, 1, 2, 3, 4, silent=(4,)))

    with pytest.raises(SumRefused):
        await gathering.parties[4].reveal()
    assert gathering.records.kept.get((TASK.run, 1, gathering.ids[4])) is None
    await lifting


async def test_a_coordinator_that_shows_two_sets_of_survivors_gets_nothing() -> None:
    gathering, seeds = await agreed(5)
    for at in seeds:
        gathering.hand_in(at, seeds[at])
    for at in (0, 1):  # these two are told that the last one is gone, so that its mask key might be revealed
        gathering.lines[at].lies[SURVIVED.path] = lambda told: Survivors(told.nodes[:-1])

    with pytest.raises(NoParticipants):
        await gathering.lifted(0, 1, 2, 3, 4)
    assert gathering.records.kept == {}


async def test_words_of_a_sum_that_broke_are_not_heard_in_the_next() -> None:
    gathering = Gathering(5)
    old = gathering.place
    stuck = asyncio.create_task(gathering.parties[0].agree(MODEL))
    await asyncio.sleep(0)
    gathering.summing.begin(1, frozenset(gathering.ids), MODEL)

    with pytest.raises(RoundClosed, match="over"):
        await gathering.summing.survived(old, gathering.ids[0])
    with pytest.raises(RoundClosed):
        await stuck


async def test_a_node_reveals_once() -> None:
    gathering, seeds = await agreed(5)
    for at in seeds:
        gathering.hand_in(at, seeds[at])
    await gathering.lifted(0, 1, 2, 3, 4)

    with pytest.raises(SumRefused, match="other survivors"):
        await gathering.records.revealed(TASK.run, 1, gathering.ids[0], gathering.ids[:-1])


# --- what a coordinator refuses -------------------------------------------------------------------


async def test_late_and_strange_words_are_refused_and_repeated_ones_are_not() -> None:
    gathering, seeds = await agreed(5, 4)
    late = gathering.parties[4]

    with pytest.raises(SumRefused, match="too late"):
        await late.agree(MODEL)
    with pytest.raises(SumRefused, match="all others"):
        await gathering.summing.deal(gathering.place, gathering.ids[0], Dealt({}))
    with pytest.raises(RoundClosed):
        await gathering.summing.survived(Place(2, 1), gathering.ids[0])
    roster = await gathering.summing.keys(
        gathering.place, gathering.ids[0], gathering.summing._said.keys[gathering.ids[0]]
    )
    assert len(roster.keys) == 4

    for at in range(4):
        gathering.hand_in(at, seeds[at])
    await gathering.lifted(0, 1, 2, 3)
    with pytest.raises(SumRefused, match="other shares"):
        await gathering.summing.reveal(gathering.place, gathering.ids[0], Revealed({}))


async def test_what_a_coordinator_gets_of_one_node_does_not_tell_its_vector() -> None:
    """A coordinator that keeps all it is told: one masked vector is far from the vector, in every number."""
    gathering, seeds = await agreed(5)
    vectors = {at: gathering.hand_in(at, seeds[at]) for at in seeds}
    mean = await gathering.lifted(0, 1, 2, 3, 4)
    lift = await asyncio.to_thread(gathering.summing._seeds)

    alone = vectors[2].copy()
    mask(alone, lift.added, lift.subtracted)  # all seeds that were revealed, on one vector by itself
    seen = gathering.quantiser.mean(alone, 1)

    np.testing.assert_allclose(mean, 0.2, atol=1e-7)
    assert np.mean(np.abs(seen - 0.2) < 1e-3) < 0.02
