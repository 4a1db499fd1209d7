"""The workers of a node over HTTP: added and removed while it runs, and none of a round is lost by it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import ClientSession

from grid.client.calls import Calls
from grid.crypto.identity import Identity
from grid.learning.plan import Plan
from grid.transport.auth import OWNER
from grid.wire import workers as wire
from grid.wire.problems import NotAllowed, NotFound, RequestRefused
from grid.wire.runs import After
from tests.grid_of_nodes import ANode, Scientist, Story, add_dataset

StartNode = Callable[..., Awaitable[ANode]]

OLGA, ADAM = (Identity.from_seed(letter * 32) for letter in (b"o", b"a"))


async def staffed(node: ANode) -> None:
    """An owner and an administrator, who cannot scale workers."""
    people = node.open.means.house.people
    await people.create(OWNER, "olga", keys=(OLGA.id,))
    await people.create(OWNER, "adam", role="Administrator", keys=(ADAM.id,))


async def test_workers_are_added_and_removed_and_there_are_as_many_after_a_restart(
    start_node: StartNode, connections: ClientSession
) -> None:
    ann = await start_node("ann", workers=2)
    await staffed(ann)
    olga, adam = Calls(connections, identity=OLGA), Calls(connections, identity=ADAM)

    async def numbers(endpoint: object = wire.WORKERS, message: object = None, **path: int) -> list[int]:
        told = await olga.call(ann.address, endpoint, message, sign=True, **path)  # type: ignore[arg-type]
        return [worker.number for worker in told.workers]  # type: ignore[attr-defined]

    assert await numbers() == [1, 2]
    assert await numbers(wire.ADD_WORKERS, wire.More(2)) == [1, 2, 3, 4]
    assert await numbers(wire.REMOVE_WORKER, number=4) == [1, 2, 3]
    with pytest.raises(NotFound):
        await numbers(wire.REMOVE_WORKER, number=9)
    with pytest.raises(RequestRefused, match="256 workers at most"):
        await numbers(wire.ADD_WORKERS, wire.More(256))
    with pytest.raises(NotAllowed, match="manage infrastructure"):
        await adam.call(ann.address, wire.WORKERS, sign=True)
    await ann.stop()
    again = await start_node("ann", workers=2)
    told = await olga.call(again.address, wire.WORKERS, sign=True)
    assert len(told.workers) == 3
    for _ in range(2):
        await olga.call(again.address, wire.REMOVE_WORKER, sign=True, number=1)
    with pytest.raises(RequestRefused, match="one worker at least"):
        await olga.call(again.address, wire.REMOVE_WORKER, sign=True, number=1)


async def test_a_worker_that_is_removed_in_the_middle_of_a_training_costs_no_round(
    start_node: StartNode, connections: ClientSession
) -> None:
    """A real process is killed while it trains; another one begins anew."""
    ann = await start_node("ann", real=True, workers=2, data=False)
    await staffed(ann)
    await add_dataset(ann.open, 2000)
    scientist, olga = Scientist(connections), Calls(connections, identity=OLGA)
    plan = Plan.mlp([3, 64, 1], loss="mse", metrics=(), epochs=30, batch=8)

    run = await scientist.start(ann, [ann], plan, rounds=1)
    await Story(run).until("round-opened", round=1)
    cursor, kinds = 0, list[str]()
    async with asyncio.timeout(30):
        while "progress" not in kinds:
            told = await ann.open.parts.participant.events(run.id, After(cursor, 5.0))
            cursor, kinds = told.after, [event.kind for event in told.events]
    (busy,) = [worker for worker in await workers_of(olga, ann) if worker.job == "train"]
    await olga.call(ann.address, wire.REMOVE_WORKER, sign=True, number=busy.number)

    result = await run.result()
    assert [line.accepted for line in result.history] == [1]
    assert len(await workers_of(olga, ann)) == 1


async def workers_of(calls: Calls, node: ANode) -> tuple[wire.WorkerInfo, ...]:
    return (await calls.call(node.address, wire.WORKERS, sign=True)).workers
