"""Models that answer: who may ask, what comes back, what it costs, and what a worker's death costs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from aiohttp import ClientSession

from grid.client.calls import Calls
from grid.client.models import all_models
from grid.client.requests import Office
from grid.faults import ANSWER, SETTING
from grid.learning.arrays import Array, layout_of, write_arrays
from grid.learning.numpy_training import predict
from grid.learning.plan import Plan
from grid.learning.tensors import header_bytes
from grid.wire import models as wire
from grid.wire.budgets import SetBudget
from grid.wire.problems import (
    BudgetSpent,
    GridError,
    ModelNotFound,
    ModelRefused,
    NotAllowed,
    PlanRefused,
    TensorsRefused,
    TooLarge,
)
from tests.grid_of_nodes import ANode, Scientist, a_node

PLAN = Plan.linear(3, 2)
ROWS = np.random.default_rng(1).standard_normal((40, 3)).astype(np.float32)
LABELS = predict(PLAN, {"features": ROWS}).argmax(1)
WHERE = {"model": "lung", "variant": "small"}


async def whole(data: bytes) -> AsyncIterator[bytes]:
    yield data


def file_of(**arrays: Array) -> bytes:
    layout = layout_of(arrays)
    data = bytearray(layout.size)
    write_arrays(layout, arrays, data)
    return header_bytes(layout) + bytes(data)


async def ask(calls: Calls, node: ANode, data: bytes | None = None, which: wire.Which | None = None) -> wire.Prediction:
    rows = file_of(features=ROWS) if data is None else data
    return await calls.upload(node.address, wire.PREDICT, whole(rows), query=which, model="lung")


def numbers(told: wire.Prediction) -> Array:
    kind = {"F32": "<f4", "I64": "<i8"}[told.dtype]
    return np.frombuffer(told.data, kind).reshape(told.shape)


async def hosted(node: ANode, connections: ClientSession, said: wire.Hosting, *, seen: bool = True) -> Calls:
    """The node's owner, who keeps a model there and hosts it as `said`."""
    owner = Calls(connections, token=await node.open.means.access.renew_token())
    await owner.call(node.address, wire.PUT_MODEL, wire.NewModel("Finds nodules"), model="lung")
    await owner.call(node.address, wire.PUT_VARIANT, wire.NewVariant(), **WHERE)
    await owner.upload(node.address, wire.PUT_CHECKPOINT_FILE, whole(PLAN.bundle()), checkpoint="first", **WHERE)
    if seen:
        await owner.call(node.address, wire.PUT_RULE, wire.AccessRule(), model="lung", subject="*")
    await owner.call(node.address, wire.HOST, said, model="lung")
    return owner


async def test_a_hosted_model_answers_and_keeps_its_values(
    start_node: Callable[..., Awaitable[ANode]], connections: ClientSession
) -> None:
    node, somebody = await start_node("ann"), Scientist(connections).calls
    await hosted(node, connections, wire.Hosting(downloads=False, predicts=True))

    told = await ask(somebody, node)

    assert np.array_equal(numbers(told), predict(PLAN, {"features": ROWS}))
    assert (told.checkpoint, told.epsilon) == ("first", 0.0)
    info = (await somebody.call(node.address, wire.MODELS)).models[0]
    assert (info.hosting.downloads, info.hosting.predicts) == (False, True)
    with pytest.raises(NotAllowed, match="downloaded"):
        async with somebody.download(node.address, wire.CHECKPOINT_FILE, checkpoint="first", **WHERE):
            pass
    assert not list((node.folder / "models" / ".drafts").glob("*"))


async def test_whoever_may_not_ask_hears_no_answer(
    start_node: Callable[..., Awaitable[ANode]], connections: ClientSession
) -> None:
    node, somebody = await start_node("ann"), Scientist(connections).calls
    owner = await hosted(node, connections, wire.Hosting(), seen=False)

    with pytest.raises(ModelNotFound):  # it is not told that there is one
        await ask(somebody, node)
    await owner.call(node.address, wire.PUT_RULE, wire.AccessRule(), model="lung", subject="*")
    with pytest.raises(NotAllowed, match="does not answer"):
        await ask(somebody, node)
    with pytest.raises(NotAllowed):
        await somebody.call(node.address, wire.HOST, wire.Hosting(predicts=True), model="lung")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (file_of(features=np.zeros((9, 3), np.float32)), TooLarge),
        (file_of(features=np.zeros((4, 5), np.float32)), PlanRefused),
        (file_of(a=np.zeros((4, 3), np.float32), b=np.zeros((4, 3), np.float32)), PlanRefused),
        (file_of(features=np.zeros((0, 3), np.float32)), PlanRefused),
        (file_of(features=np.zeros((), np.float32)), PlanRefused),
        (b"\x80\x04" + bytes(100), ModelRefused),
        (b"", ModelRefused),
    ],
)
async def test_what_are_no_rows_for_the_plan_is_refused_and_nothing_stays(
    start_node: Callable[..., Awaitable[ANode]], connections: ClientSession, data: bytes, error: type[GridError]
) -> None:
    node = await start_node("ann")
    await hosted(node, connections, wire.Hosting(predicts=True, most_rows=8))

    with pytest.raises(error):
        await ask(Scientist(connections).calls, node, data)

    assert not list((node.folder / "models" / ".drafts").glob("*"))


async def test_answers_that_cost_are_labels_and_are_paid_until_nothing_is_left(
    start_node: Callable[..., Awaitable[ANode]], connections: ClientSession
) -> None:
    node, somebody = await start_node("ann"), Scientist(connections).calls
    await hosted(node, connections, wire.Hosting(predicts=True, dataset="pulse", epsilon=0.5))
    ledger = node.open.means.ledger
    await ledger.set(SetBudget("pulse", 50.0))

    told = await ask(somebody, node)

    assert (told.dtype, told.shape, told.epsilon) == ("I64", (40,), 20.0)
    assert set(numbers(told)) <= {0, 1}
    assert np.mean(numbers(told) == LABELS) > 0.2  # at 0.5, six of ten are right on average
    (budget,) = await ledger.told()
    assert (budget.runs, budget.reserved) == (1, 0)
    assert 0 < budget.spent <= 20.0 + 0.1
    with pytest.raises(PlanRefused):  # what was not answered is not paid
        await ask(somebody, node, file_of(features=np.zeros((40, 5), np.float32)))
    assert (await ledger.told())[0].spent == budget.spent
    for _ in range(2):
        with suppress(BudgetSpent):
            await ask(somebody, node)
    with pytest.raises(BudgetSpent):
        await ask(somebody, node)
    assert 20.0 < (await ledger.told())[0].spent <= 50.0


async def test_a_cost_is_said_with_its_dataset_by_who_manages_budgets(
    start_node: Callable[..., Awaitable[ANode]], connections: ClientSession
) -> None:
    node = await start_node("ann")
    owner = await hosted(node, connections, wire.Hosting())

    for said in (wire.Hosting(dataset="pulse"), wire.Hosting(epsilon=1.0), wire.Hosting(dataset="none", epsilon=1.0)):
        with pytest.raises(ModelRefused):
            await owner.call(node.address, wire.HOST, said, model="lung")


async def test_real_workers_answer_with_torch(tmp_path: Path, connections: ClientSession) -> None:
    node = await a_node("ann", tmp_path, real=True)
    try:
        await hosted(node, connections, wire.Hosting(predicts=True))
        told = await ask(Scientist(connections).calls, node)
        assert np.allclose(numbers(told), predict(PLAN, {"features": ROWS}), atol=1e-6)
    finally:
        await node.stop()


async def test_a_scientist_finds_a_model_asks_it_and_may_not_fetch_it(
    start_node: Callable[..., Awaitable[ANode]], connections: ClientSession
) -> None:
    node, scientist = await start_node("ann"), Scientist(connections)
    owner = await hosted(node, connections, wire.Hosting(downloads=False, predicts=True))
    office = Office(node.address, node.identity.public)

    (model,) = await all_models(scientist.calls, office)

    assert repr(model) == "Model('lung', may not be downloaded, answers for 1024 rows at a time)"
    assert np.array_equal(await model.predict(ROWS), predict(PLAN, {"features": ROWS}))
    assert np.array_equal(
        await model.predict({"features": ROWS[:2]}, checkpoint="first"), (await model.predict(ROWS))[:2]
    )
    with pytest.raises(NotAllowed):
        await model.download()
    with pytest.raises(TensorsRefused):
        await model.predict(np.array(["words"]))
    await owner.call(node.address, wire.HOST, wire.Hosting(), model="lung")
    assert (await model.download()).digest == PLAN.digest


@pytest.mark.parametrize("fault", ANSWER)
async def test_a_worker_that_is_killed_while_it_answers_costs_time_and_is_paid_once(
    tmp_path: Path,
    connections: ClientSession,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    monkeypatch.setenv(SETTING, fault)  # heard by the process that forks the workers
    node = await a_node("ann", tmp_path / "node", real=True)
    try:
        await hosted(node, connections, wire.Hosting(predicts=True, dataset="pulse", epsilon=0.5))
        await node.open.means.ledger.set(SetBudget("pulse", 50.0))
        told = await ask(Scientist(connections).calls, node)
        (budget,) = await node.open.means.ledger.told()
    finally:
        await node.stop()
    assert "another worker begins anew" in caplog.text
    assert (told.shape, budget.runs, budget.reserved) == ((40,), 1, 0)
