"""`grid models` and `grid predict`, at a node that hosts a model."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from aiohttp import ClientSession
from click.testing import CliRunner, Result

from grid.cli.grid import main
from grid.client.calls import Calls
from grid.client.payload import once
from grid.learning.numpy_training import predict
from grid.learning.plan import Plan
from grid.wire import models as wire
from tests.grid_of_nodes import ANode

PLAN = Plan.linear(3, 2)
ROWS = np.random.default_rng(2).standard_normal((5, 3)).astype(np.float32)


async def grid(*words: object) -> Result:
    return await to_thread(CliRunner().invoke, main, [str(word) for word in words])


@pytest.fixture
async def node(
    start_node: Callable[..., Awaitable[ANode]],
    connections: ClientSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> ANode:
    monkeypatch.setenv("GRID_HOME", str(tmp_path / "home"))
    found = await start_node("ann")
    owner, where = Calls(connections, token=await found.open.means.access.renew_token()), {"model": "lung"}
    await owner.call(found.address, wire.PUT_MODEL, wire.NewModel("Finds nodules"), **where)
    await owner.call(found.address, wire.PUT_VARIANT, wire.NewVariant(), variant="small", **where)
    kept = once(PLAN.bundle())
    await owner.upload(found.address, wire.PUT_CHECKPOINT_FILE, kept, variant="small", checkpoint="first", **where)
    await owner.call(found.address, wire.PUT_RULE, wire.AccessRule(), subject="*", **where)
    await owner.call(found.address, wire.HOST, wire.Hosting(predicts=True, most_rows=8), **where)
    return found


async def test_a_model_is_listed_and_answers_for_rows_in_a_file(node: ANode, tmp_path: Path) -> None:
    expected = predict(PLAN, {"features": ROWS})
    np.save(tmp_path / "rows.npy", ROWS)
    np.savez(tmp_path / "rows.npz", features=ROWS)

    listed = await grid("models", node.address)
    as_text = await grid("predict", node.address, "lung", tmp_path / "rows.npy")
    in_file = await grid("predict", node.address, "lung", tmp_path / "rows.npz", "--out", tmp_path / "answers.npy")

    assert "may be downloaded, answers for 8 rows at a time" in listed.stdout
    assert np.allclose(np.loadtxt(as_text.stdout.splitlines()), expected, rtol=1e-4, atol=1e-5)
    assert in_file.stdout.startswith("5 answers in")
    assert np.array_equal(np.load(tmp_path / "answers.npy"), expected)


async def test_what_is_refused_is_said_in_one_line(node: ANode, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((9, 3), np.float32))
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)

    for words, said in (
        (("lung", tmp_path / "rows.npy"), "9 rows"),
        (("heart", tmp_path / "rows.npy"), "no model heart"),
        (("lung", tmp_path / "objects.npy"), "holds no arrays"),
    ):
        refused = await grid("predict", node.address, *words)
        assert refused.exit_code == 1
        assert said in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
