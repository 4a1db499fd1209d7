"""Tasks for devices by the node's own API: what holds beside the contract of a dialect (`dialects/test_flea.py`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from aiohttp import ClientSession

from grid.client.calls import Calls
from grid.client.payload import gather, once
from grid.crypto.identity import Identity
from grid.learning.plan import Plan
from grid.learning.strategy import PRESETS
from grid.learning.tensors import header_bytes
from grid.transport.auth import OWNER
from grid.wire import models
from grid.wire import tasks as wire
from grid.wire.problems import (
    CommitsSpent,
    NotAllowed,
    OutOfTurn,
    StrategyRefused,
    TaskClosed,
    TaskNotFound,
    TicketRefused,
    UpdateRefused,
    UpdateRepeated,
)
from grid.wire.runs import After
from tests.grid_of_nodes import ANode, numbers, plan_of

KEYS = {name: Identity.from_seed(name.encode().ljust(32)) for name in ("maker", "phone", "tablet")}
ROLES = {"maker": "Administrator", "phone": "User", "tablet": "User"}
LUNG: dict[str, Any] = {"model": "lung", "variant": "small"}


class Three:
    """A node, and accounts that call it: one makes models and tasks, two work on them."""

    def __init__(self, node: ANode, http: ClientSession) -> None:
        self.node, self.calls = node, {name: Calls(http, identity=key) for name, key in KEYS.items()}

    async def ask(self, who: str, endpoint: Any, message: Any = None, **words: Any) -> Any:
        """What somebody is answered."""
        return await self.calls[who].call(self.node.address, endpoint, message, **words)

    async def put(self, who: str, endpoint: Any, data: bytes, **words: Any) -> Any:
        """The same of a stream."""
        return await self.calls[who].upload(self.node.address, endpoint, once(data), **words)

    async def add(self, name: str = "t", **more: Any) -> wire.TaskInfo:
        """A new task for the first checkpoint."""
        new = wire.NewTask("lung", "small", time.time() + 600, ("c1",), **more)
        told: wire.TaskInfo = await self.ask("maker", wire.ADD_TASK, new, task=name)
        return told

    async def work(self, who: str, values: list[float], examples: int = 10, name: str = "t") -> None:
        """Commit, and hand in."""
        done = await self.ask(who, wire.COMMIT, wire.Commit(), task=name)
        await self.put(who, wire.HAND_IN, tensors(values), query=wire.Learned(examples), ticket=done.ticket)

    async def until(self, kind: str, name: str = "t") -> None:
        """Wait for what happens to a task."""
        cursor = 0
        async with asyncio.timeout(20):
            while True:
                heard = await self.ask("maker", wire.TASK_EVENTS, query=After(cursor, 10.0), task=name)
                if any(event.kind == kind for event in heard.events):
                    return
                cursor = heard.after


def tensors(values: list[float]) -> bytes:
    """A model's tensors in a file."""
    return header_bytes(plan_of().layout) + np.array(values, np.float32).tobytes()


@pytest.fixture
async def three(start_node: Callable[..., Awaitable[ANode]], connections: ClientSession) -> Three:
    node = await start_node("ann", least_rows=5)
    for name, key in KEYS.items():
        await node.open.means.house.people.create(OWNER, name, role=ROLES[name], keys=(key.id,))
    three = Three(node, connections)
    await three.ask("maker", models.PUT_MODEL, models.NewModel(), model="lung")
    await three.ask("maker", models.PUT_VARIANT, models.NewVariant(), **LUNG)
    await three.put("maker", models.PUT_CHECKPOINT_FILE, plan_of().bundle(), checkpoint="c1", **LUNG)
    await three.ask("maker", models.PUT_RULE, models.AccessRule(commits=True), model="lung", subject="*")
    return three


async def test_a_task_from_its_draft_to_its_checkpoint(three: Three) -> None:
    drafted = await three.add(open=False)
    given = await three.put("maker", wire.PUT_TASK_FILE, b"how to train", task="t")
    assert (drafted.state, drafted.owner, given.file != "") == ("draft", "maker", True)
    with pytest.raises(TaskNotFound):
        await three.ask("phone", wire.TASK, task="t")
    await three.ask("maker", wire.CHANGE_TASK, wire.TaskChange(open=True), task="t")
    with pytest.raises(OutOfTurn, match="rely on"):
        await three.put("maker", wire.PUT_TASK_FILE, b"otherwise", task="t")
    async with three.calls["phone"].download(three.node.address, wire.TASK_FILE, task="t") as (_, blocks):
        assert await gather(blocks, 100) == b"how to train"
    await three.work("phone", [1, 2, 3, 4], examples=30)
    await three.work("tablet", [5, 6, 7, 8], examples=10)
    await three.ask("maker", wire.CHANGE_TASK, wire.TaskChange(open=False), task="t")
    await three.ask("maker", wire.AGGREGATE_TASK, task="t")
    await three.until("aggregated")

    told = await three.ask("phone", wire.TASK, task="t")
    where = {"checkpoint": told.result, **LUNG}
    async with three.calls["phone"].download(three.node.address, models.CHECKPOINT_FILE, **where) as (_, blocks):
        made = Plan.from_bundle(await gather(blocks, 1 << 20))
    np.testing.assert_allclose(numbers(made.initial), [2, 3, 4, 5])
    with pytest.raises(NotAllowed):
        await three.ask("phone", wire.TASK_EVALUATION, task="t")
    assert (await three.ask("maker", wire.TASK_EVALUATION, task="t")).state == "aggregated"
    assert (await three.ask("maker", wire.ARCHIVE_TASK, task="t")).state == "archived"


async def test_whoever_waits_for_a_task_hears_of_it_when_it_is_opened(three: Three) -> None:
    query = wire.TaskQuery("lung", "small", "c1", wait=20.0)
    waiting = asyncio.create_task(three.ask("phone", wire.TASKS, query=query))
    assert (await three.ask("tablet", wire.TASKS, query=wire.TaskQuery(wait=0.01))).tasks == ()
    await three.add(open=False)
    assert not waiting.done()

    await three.ask("maker", wire.CHANGE_TASK, wire.TaskChange(open=True), task="t")

    async with asyncio.timeout(5):
        assert [task.task for task in (await waiting).tasks] == ["t"]


async def test_pages_say_whether_there_is_more(three: Three) -> None:
    for name in ("a", "b", "c"):
        await three.add(name)

    page = await three.ask("phone", wire.TASKS, query=wire.TaskQuery(most=2))
    rest = await three.ask("phone", wire.TASKS, query=wire.TaskQuery(first="c", most=2))

    assert ([task.task for task in page.tasks], page.more) == (["a", "b"], True)
    assert ([task.task for task in rest.tasks], rest.more) == (["c"], False)


@pytest.mark.parametrize("data", [tensors([1] * 4)[:-1], tensors([1] * 4) + b"x", b"", b"PK\x03\x04" + bytes(90)])
async def test_what_is_not_the_models_tensors_is_refused_and_the_ticket_stays_good(three: Three, data: bytes) -> None:
    await three.add()
    ticket = (await three.ask("phone", wire.COMMIT, wire.Commit(), task="t")).ticket

    with pytest.raises(UpdateRefused):
        await three.put("phone", wire.HAND_IN, data, query=wire.Learned(1), ticket=ticket)
    with pytest.raises(TicketRefused):
        await three.put("tablet", wire.HAND_IN, tensors([1] * 4), query=wire.Learned(1), ticket=ticket)
    await three.put("phone", wire.HAND_IN, tensors([1] * 4), query=wire.Learned(1), ticket=ticket)
    with pytest.raises(UpdateRepeated):
        await three.put("phone", wire.HAND_IN, tensors([1] * 4), query=wire.Learned(1), ticket=ticket)
    with pytest.raises(CommitsSpent):
        await three.ask("phone", wire.COMMIT, wire.Commit(), task="t")


async def test_a_job_that_was_given_up_begins_anew(three: Three) -> None:
    await three.add()
    first = await three.ask("phone", wire.COMMIT, wire.Commit(), task="t")
    await three.ask("phone", wire.GIVE_UP, wire.GaveUp("the battery is low"), task="t", job=first.job)

    again = await three.ask("phone", wire.COMMIT, wire.Commit("c1"), task="t")

    assert (again.job, again.ticket != first.ticket) == (first.job, True)
    told = await three.ask("maker", wire.TASK_STATISTICS, task="t")
    assert told.clients == (wire.ClientCount("phone", 1, 0),)
    assert (await three.ask("maker", wire.MODEL_STATISTICS, model="lung")).commitments == 1


async def test_a_closed_task_takes_nothing(three: Three) -> None:
    await three.add()
    ticket = (await three.ask("phone", wire.COMMIT, wire.Commit(), task="t")).ticket
    await three.ask("maker", wire.CHANGE_TASK, wire.TaskChange(open=False), task="t")

    with pytest.raises(TaskClosed):
        await three.ask("tablet", wire.COMMIT, wire.Commit(), task="t")
    with pytest.raises(TaskClosed):
        await three.put("phone", wire.HAND_IN, tensors([1] * 4), query=wire.Learned(1), ticket=ticket)


@pytest.mark.parametrize(("deaths", "state"), [(2, "aggregated"), (3, "closed")])
async def test_a_worker_that_dies_in_a_sum_costs_time_and_three_cost_the_sum(
    three: Three, deaths: int, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await three.add()
    await three.work("phone", [1, 2, 3, 4])
    await three.ask("maker", wire.CHANGE_TASK, wire.TaskChange(open=False), task="t")
    engine, opened = three.node.folder_engine, three.node.folder_engine.open
    left = deaths

    async def dying(job: Any) -> Any:
        nonlocal left
        seat, left = await opened(job), left - 1
        seat.broken = left >= 0
        return seat

    monkeypatch.setattr(engine, "open", dying)
    await three.ask("maker", wire.AGGREGATE_TASK, task="t")
    await three.until("aggregating")
    async with asyncio.timeout(10):
        while (told := await three.ask("maker", wire.TASK, task="t")).state == "aggregating":
            pass

    assert (told.state, "signal 9" in told.reason) == (state, state == "closed")
    if state == "closed":  # it may be asked for again
        await three.ask("maker", wire.AGGREGATE_TASK, task="t")
    await three.until("aggregated")


LOOKS_AT_MORE = {"scaffold", "fednova", "q-fedavg", "fedbuff", "fedasync"}
"""Of an update, than a whole model and how many examples it was learned from."""


@pytest.mark.parametrize("preset", PRESETS)
async def test_a_task_is_summed_by_every_strategy_that_takes_whole_models(three: Three, preset: str) -> None:
    strategy = msgspec.to_builtins(PRESETS[preset])
    if preset in LOOKS_AT_MORE:
        with pytest.raises(StrategyRefused, match="whole models"):
            await three.add(strategy=strategy)
        return
    await three.add(strategy=strategy)
    await three.ask("maker", models.PUT_RULE, models.AccessRule(commits=True, most=0), model="lung", subject="*")
    for _ in range(8):
        await three.work("phone", [1, 1, 1, 1])
    await three.ask("maker", wire.CHANGE_TASK, wire.TaskChange(open=False), task="t")
    await three.ask("maker", wire.AGGREGATE_TASK, task="t")
    await three.until("aggregated")

    assert (await three.ask("maker", wire.TASK, task="t")).result == "t"
