"""Requests for access at a real node: asked, shown with evidence, decided, used, lapsed; and runs that wait for one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession

from grid.client.calls import Calls
from grid.client.datasets import AsyncDataset
from grid.client.requests import AsyncRequest, Office, ask, requests_at
from grid.crypto.identity import Identity
from grid.learning.private import Privacy
from grid.protocol.audit_log import verified
from grid.transport.auth import OWNER
from grid.wire import models
from grid.wire import requests as wire
from grid.wire.budgets import SetBudget
from grid.wire.permissions import Permit
from grid.wire.problems import (
    DatasetNotFound,
    ModelNotFound,
    NotAllowed,
    NotFound,
    NotInvited,
    NotReleased,
    OutOfTurn,
    RequestRefused,
    RunNotFound,
    RunRefused,
    TooManyRequests,
)
from grid.wire.runs import RELEASE, After
from tests.grid_of_nodes import ANode, Learner, Scientist, plan_of

StartNode = Callable[..., Awaitable[ANode]]

OLGA, CORA, SUE, BOB = (Identity.from_seed(letter * 32) for letter in (b"o", b"c", b"s", b"b"))


@pytest.fixture
async def ann(start_node: StartNode) -> ANode:
    """A node with an owner, an officer and two users."""
    node = await start_node("ann", Learner())
    people = node.open.means.house.people
    await people.create(OWNER, "olga", keys=(OLGA.id,))
    await people.create(OWNER, "cora", role="Compliance Officer", keys=(CORA.id,))
    for name, key in (("sue", SUE), ("bob", BOB)):
        await people.create(OWNER, name, role="User", keys=(key.id,))
    return node


class Desk:
    """Somebody at a node."""

    def __init__(self, node: ANode, connections: ClientSession, identity: Identity) -> None:
        self.node, self.calls = node, Calls(connections, identity=identity)
        self.office = Office(node.address, node.identity.public)

    @property
    def data(self) -> AsyncDataset:
        info = self.node.open.means.catalogue.get("pulse")
        return AsyncDataset(self.calls, "ann", self.node.address, self.node.identity.id, info)

    async def decide(self, number: int, accept: bool, why: str = "", lasts: float = 3600.0) -> wire.RequestInfo:
        decision = wire.Decision(accept, why, lasts)
        return await self.calls.call(self.office.address, wire.DECIDE, decision, sign=True, id=number)

    async def see(self, number: int) -> wire.RequestInfo:
        return await self.calls.call(self.office.address, wire.REQUEST, sign=True, id=number)

    async def hears(self) -> wire.RequestInfo:
        """The only request that there is, once there is one."""
        await self.calls.call(self.office.address, wire.REQUEST_EVENTS, query=After(0, 10.0), sign=True)
        (request,) = (await self.calls.call(self.office.address, wire.REQUESTS, sign=True)).requests
        return request

    async def states(self) -> list[tuple[int, str]]:
        return [(each.id, each.state) for each in await requests_at(self.calls, self.office)]


@pytest.fixture
def at(ann: ANode, connections: ClientSession) -> Callable[[Identity], Desk]:
    """Makes callers."""
    return lambda identity: Desk(ann, connections, identity)


async def test_a_download_is_asked_for_accepted_used_and_taken_back_when_its_time_is_over(
    at: Callable[[Identity], Desk], ann: ANode
) -> None:
    sue, cora = at(SUE), at(CORA)
    with pytest.raises(NotAllowed, match="ask for access"):
        await sue.data.tensor("features")

    request = await sue.data.request_access("a study of pulses", tensor="features")
    waiting = asyncio.ensure_future(request.decided())
    assert [each.asked.reason for each in (await cora.calls.call(ann.address, wire.REQUESTS, sign=True)).requests] == [
        "a study of pulses"
    ]
    assert (await cora.decide(request.id, True, "go on", lasts=0.001)).state == "accepted"

    told = await waiting
    assert (told.by, told.why, told.evidence) == ("cora", "go on", None)
    assert (await sue.data.tensor("features")).shape == (10, 3)
    assert (await request.refresh()).state == "released"
    with pytest.raises(NotAllowed):
        await sue.data.tensor("target")
    await ann.open.means.requests.tend()
    assert (await request.refresh()).state == "lapsed"
    with pytest.raises(NotAllowed):
        await sue.data.tensor("features")


async def test_a_permission_and_a_budget_are_granted_as_asked(at: Callable[[Identity], Desk], ann: ANode) -> None:
    sue, cora, means = at(SUE), at(CORA), ann.open.means
    permission = await sue.data.request_access("to train", action="train")
    budget = await sue.data.request_access("to train privately", epsilon=1.5)

    for each in (permission, budget):
        await cora.decide(each.id, True)

    assert means.permissions.told("pulse").permissions == (Permit("train", True, user="sue"),)
    (told,) = await means.ledger.told()
    assert (told.subject, told.epsilon) == ("sue", 1.5)
    more = await sue.data.request_access("still more", epsilon=0.5)
    await cora.decide(more.id, True)
    assert (await means.ledger.told())[0].epsilon == 2.0
    await permission.withdraw()
    assert means.permissions.told("pulse").permissions == ()


async def test_officers_decide_and_nobody_on_their_own(at: Callable[[Identity], Desk]) -> None:
    sue, bob, cora, olga = at(SUE), at(BOB), at(CORA), at(OLGA)
    request = await sue.data.request_access("a study", tensor="features")
    own = await cora.data.request_access("curiosity", tensor="features")

    with pytest.raises(NotAllowed, match="triage requests"):
        await sue.decide(request.id, True)
    with pytest.raises(NotAllowed, match="their own request"):
        await cora.decide(own.id, True)
    with pytest.raises(NotFound):
        await bob.see(request.id)
    assert await bob.states() == []
    assert (await olga.decide(own.id, False, "no")).state == "denied"
    with pytest.raises(OutOfTurn):
        await olga.decide(own.id, True)
    with pytest.raises(NotAllowed, match="only who asked"):
        await cora.calls.call(cora.office.address, wire.WITHDRAW, sign=True, id=request.id)
    assert (await request.withdraw()).state == "withdrawn"
    assert await cora.states() == [(2, "denied"), (1, "withdrawn")]


async def test_an_officer_sees_evidence_and_who_asked_does_not(at: Callable[[Identity], Desk]) -> None:
    sue, cora = at(SUE), at(CORA)
    first = await sue.data.request_access("one", tensor="target")
    await cora.decide(first.id, True)
    second = await sue.data.request_access("two", tensor="features")

    evidence = (await cora.see(second.id)).evidence

    assert evidence is not None
    assert evidence.figures == {"rows": 10.0, "numbers": 30.0, "share-of-data": 0.75}
    assert evidence.average["numbers"] == 1.0  # all that were accepted had less of it
    assert evidence.history == {"accepted": 1, "pending": 1}
    assert evidence.provenance["key"] == SUE.id
    assert (await sue.see(second.id)).evidence is None


@pytest.mark.parametrize(
    "asked",
    [
        wire.Ask("download", "pulse", "why"),
        wire.Ask("download", "pulse", "why", tensor="nothing"),
        wire.Ask("permission", "pulse", "why"),
        wire.Ask("budget", "pulse", "why"),
        wire.Ask("training", "pulse", "why"),
        wire.Ask("training", "pulse", "why", training=wire.Training("0" * 64)),
        wire.Ask("release", "pulse", "why"),
        wire.Ask("inference", "pulse", "why"),
    ],
)
async def test_what_says_not_what_it_is_for_is_refused(at: Callable[[Identity], Desk], asked: wire.Ask) -> None:
    sue = at(SUE)

    with pytest.raises(RequestRefused):
        await sue.calls.call(sue.office.address, wire.ASK, asked, sign=True)


async def test_the_same_is_asked_once_and_not_without_end(
    at: Callable[[Identity], Desk], ann: ANode, monkeypatch: pytest.MonkeyPatch
) -> None:
    sue = at(SUE)
    first = await sue.data.request_access("why", tensor="features")
    assert (await sue.data.request_access("why", tensor="features")).id == first.id
    monkeypatch.setattr("grid.node.requests.OPEN", 1)
    with pytest.raises(TooManyRequests):
        await sue.data.request_access("why", tensor="target")
    await ann.open.means.catalogue.change("pulse", visibility="hidden")
    with pytest.raises(DatasetNotFound):
        await sue.calls.call(sue.office.address, wire.ASK, wire.Ask("download", "pulse", "w", tensor="x"), sign=True)


# --- the gate before a run --------------------------------------------------------------------------


async def admission(ann: ANode, connections: ClientSession) -> None:
    """Runs on the node's data have to be admitted."""
    olga = Calls(connections, identity=OLGA)
    await olga.call(ann.address, wire.SET_GATES, wire.GateSetting(admission=True), sign=True, name="pulse")


async def asked(sue: Scientist, ann: ANode, **settings: Any) -> AsyncRequest:
    """A request for a training of the node's data."""
    (request,) = await sue.grid(ann).request_training(plan_of(), "#pulse", reason="a study", **settings)
    return request


async def test_a_run_begins_when_an_officer_admitted_it_once_and_only_as_it_was_shown(
    ann: ANode, connections: ClientSession, at: Callable[[Identity], Desk]
) -> None:
    sue, cora = Scientist(connections, SUE), at(CORA)
    await admission(ann, connections)
    await ann.open.means.permissions.permit("pulse", Permit("train", True, user="sue"))

    async def train(**settings: Any) -> None:
        words = {"holdout": 0.2, "deadline": 30.0} | settings
        run = await sue.grid(ann).train(plan_of(), "#pulse", coordinator=ann.address, **words)
        await run.result()

    with pytest.raises(RunRefused, match="an officer admits runs on pulse"):
        await train()
    assert ann.learner.opened == 0
    request = await asked(sue, ann)
    sheet = dict((await cora.see(request.id)).evidence.sheet)  # type: ignore[union-attr]
    assert sheet["plan"] == plan_of().digest
    with pytest.raises(RunRefused, match="an officer admits"):
        await train()
    await cora.decide(request.id, True)
    with pytest.raises(RunRefused, match="an officer admits"):
        await train(rounds=2)
    await train()
    assert (await request.refresh()).state == "released"
    with pytest.raises(RunRefused, match="an officer admits"):
        await train()


async def test_a_training_over_budget_is_denied_before_an_officer_sees_it(
    ann: ANode, connections: ClientSession, at: Callable[[Identity], Desk]
) -> None:
    sue = Scientist(connections, SUE)
    await ann.open.means.ledger.set(SetBudget("pulse", 1.0))

    bare = await asked(sue, ann)
    assert (bare.state, bare.info.by) == ("auto-denied", "ledger")
    assert "has a privacy budget" in bare.info.why
    dear = await asked(sue, ann, dp=Privacy(5.0, rate=0.5))
    assert dear.state == "auto-denied"
    assert "with this run's 1 rounds it would be" in dear.info.why
    cheap = await asked(sue, ann, dp=Privacy(0.5, rate=0.5))
    assert cheap.state == "pending"
    evidence = (await at(CORA).see(cheap.id)).evidence
    assert evidence is not None
    (cost,) = evidence.costs
    assert cost.share is not None
    assert (cost.whose, cost.epsilon, cost.left) == ("all who ask", 1.0, 1.0)
    assert 0.3 < cost.share <= 0.5


# --- the log of decisions ---------------------------------------------------------------------------


async def test_every_change_is_in_the_log_and_in_the_events_of_who_asked(
    at: Callable[[Identity], Desk], ann: ANode
) -> None:
    sue, cora = at(SUE), at(CORA)
    request = await sue.data.request_access("why", tensor="features")
    await cora.decide(request.id, False, "not this one")

    page = await cora.calls.call(ann.address, wire.AUDIT_LOG, sign=True)

    entries = list(verified(page.entries, ann.identity.id))
    assert [(entry.data["state"], entry.data["by"]) for entry in entries] == [("pending", ""), ("denied", "cora")]
    assert entries[0].data["asked"] == msgspec.to_builtins(request.info.asked)
    with pytest.raises(NotAllowed):
        await sue.calls.call(ann.address, wire.AUDIT_LOG, sign=True)
    heard = await sue.calls.call(ann.address, wire.REQUEST_EVENTS, query=After(), sign=True)
    assert [event.kind for event in heard.events] == ["request-pending", "request-denied"]
    assert (await at(BOB).calls.call(ann.address, wire.REQUEST_EVENTS, query=After(), sign=True)).events == ()


# --- the gate after a run ---------------------------------------------------------------------------


async def gated(node: ANode, connections: ClientSession, *keepers: str) -> None:
    """What is learned from a node's data waits for an officer of it."""
    setting = wire.GateSetting(release=True, keepers=keepers)
    await Calls(connections, identity=OLGA).call(node.address, wire.SET_GATES, setting, sign=True, name="pulse")
    await node.open.means.permissions.permit("pulse", Permit("train", True, user="sue"))


async def test_what_a_held_run_learned_is_handed_out_when_every_officer_released_it(
    ann: ANode, start_node: StartNode, connections: ClientSession, at: Callable[[Identity], Desk]
) -> None:
    sue, cora = Scientist(connections, SUE), at(CORA)
    bob, keeper = await start_node("bob", Learner()), await start_node("keeper")
    for node in (bob, keeper):
        await node.open.means.access.trust(SUE.id)
    await gated(ann, connections, keeper.identity.id)

    run = await sue.grid(ann, bob).train(plan_of(), "#pulse", coordinator=keeper.address, rounds=2, held=True)
    with pytest.raises(NotReleased, match=r"ann.* has not released this run"):
        await run.result()
    getting = asyncio.ensure_future(run.get())
    request = await cora.hears()
    told = await cora.see(request.id)
    assert told.evidence is not None
    assert (told.asked.kind, told.run, told.account, told.state) == ("release", run.id, "sue", "pending")
    assert told.evidence.figures["rounds"] == 2.0
    assert told.evidence.provenance["coordinator"] == keeper.identity.id
    assert not getting.done()
    await cora.decide(request.id, True, "fine")

    assert (await getting).layout == plan_of().layout
    assert (await run.result()).plan is not None
    assert (await cora.see(request.id)).state == "released"


async def test_a_result_that_is_denied_stays_where_it_is(
    ann: ANode, connections: ClientSession, at: Callable[[Identity], Desk]
) -> None:
    sue, cora = Scientist(connections, SUE), at(CORA)
    await gated(ann, connections)

    run = await sue.grid(ann).train(plan_of(), "#pulse", coordinator=ann.address, held=True)
    with pytest.raises(NotReleased):
        await run.result()
    request = await cora.hears()
    await cora.decide(request.id, False, "it knows one patient by heart")
    with pytest.raises(NotReleased):
        await run.checkpoint()


async def test_a_gate_after_runs_wants_a_held_task_and_a_coordinator_that_keeps_it(
    ann: ANode, start_node: StartNode, connections: ClientSession
) -> None:
    sue, elsewhere = Scientist(connections, SUE), await start_node("elsewhere")
    await elsewhere.open.means.access.trust(SUE.id)
    await gated(ann, connections)

    for words, why in (
        ({"coordinator": ann.address}, "the task must be held"),
        ({"coordinator": elsewhere.address, "held": True}, "driven by a node that keeps its result"),
    ):
        run = await sue.grid(ann).train(plan_of(), "#pulse", **words)  # type: ignore[arg-type]
        with pytest.raises(RunRefused, match=why):
            await run.result()


async def test_only_those_who_took_part_release_a_run(
    ann: ANode, connections: ClientSession, at: Callable[[Identity], Desk]
) -> None:
    sue = Scientist(connections, SUE)
    await gated(ann, connections)
    run = await sue.grid(ann).train(plan_of(), "#pulse", coordinator=ann.address, held=True)
    with pytest.raises(NotReleased):
        await run.result()

    with pytest.raises(NotInvited):
        await sue.calls.call(ann.address, RELEASE, sign=True, run=run.id)
    with pytest.raises(RunNotFound):
        await sue.calls.call(ann.address, RELEASE, sign=True, run="x" * 32)


async def test_an_accepted_request_for_inference_lets_a_model_be_seen_and_so_asked(
    at: Callable[[Identity], Desk], ann: ANode
) -> None:
    sue, cora, olga = at(SUE), at(CORA), at(OLGA)
    await olga.calls.call(ann.address, models.PUT_MODEL, models.NewModel(), model="lung", sign=True)
    asked = wire.Ask("inference", "pulse", "a second opinion", model="lung")
    request = await ask(sue.calls, sue.office, asked)
    with pytest.raises(ModelNotFound):
        await sue.calls.call(ann.address, models.MODEL, model="lung", sign=True)

    await cora.decide(request.info.id, True, lasts=0.001)

    assert (await sue.calls.call(ann.address, models.MODEL, model="lung", sign=True)).model == "lung"
    await ann.open.means.requests.tend()
    with pytest.raises(ModelNotFound):
        await sue.calls.call(ann.address, models.MODEL, model="lung", sign=True)


async def test_what_a_request_says_beside_its_kind_is_not_granted(at: Callable[[Identity], Desk], ann: ANode) -> None:
    sue, cora, olga = at(SUE), at(CORA), at(OLGA)
    await olga.calls.call(ann.address, models.PUT_MODEL, models.NewModel(), model="lung", sign=True)
    asked = wire.Ask("permission", "pulse", "why", action="train", epsilon=1000.0, model="lung")
    request = await ask(sue.calls, sue.office, asked)

    await cora.decide(request.info.id, True)

    assert await ann.open.means.ledger.told() == ()
    with pytest.raises(ModelNotFound):
        await sue.calls.call(ann.address, models.MODEL, model="lung", sign=True)


async def test_the_plan_of_a_request_is_kept_for_as_long_as_it_is_open(
    ann: ANode, connections: ClientSession, at: Callable[[Identity], Desk]
) -> None:
    sue, cora = Scientist(connections, SUE), at(CORA)
    await ann.open.means.ledger.set(SetBudget("pulse", 1.0))
    request = await asked(sue, ann, dp=Privacy(0.5, rate=0.5))
    await ann.open.means.requests.tend()

    evidence = (await cora.see(request.id)).evidence

    assert evidence is not None
    assert evidence.costs[0].share is not None
    await cora.decide(request.id, False, "no")
    await ann.open.means.requests.tend()
    assert list((ann.folder / "blobs" / "named").glob("asked-*")) == []
