"""Updates in, a mean out, whatever becomes of the worker that sums."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grid.client.payload import read_prekey
from grid.crypto.identity import Identity
from grid.crypto.sealing import seal_bytes
from grid.learning.scheme import Scheme
from grid.learning.strategy import FEDAVG, Strategy
from grid.learning.tensors import header_bytes
from grid.node.checkpoints import Checkpoints
from grid.node.collect import REPORT, Collect
from grid.node.means import Means
from grid.wire.problems import EnvelopeRefused, GridError, UpdateRefused
from grid.wire.runs import Report
from tests.grid_of_nodes import ANode, numbers, plan_of

PLAN = plan_of()
LAYOUT = PLAN.layout
ANN = Identity.from_seed(b"a" * 32)


@pytest.fixture
def update(coordinator: ANode, tmp_path: Path) -> Callable[[float, int], Path]:
    """What makes files of sealed updates: all numbers alike, from so many examples."""
    made = iter(range(10_000))

    def make(value: float, examples: int, number: int = 1) -> Path:
        report = msgspec.json.encode(Report("trained", examples)).decode()
        payload = header_bytes(LAYOUT, {REPORT: report}) + np.full(4, value, np.float32).tobytes()
        path = tmp_path / f"update-{next(made)}"
        path.write_bytes(_sealed(coordinator.open.means, payload, number))
        return path

    return make


def _sealed(means: Means, payload: bytes, number: int) -> bytes:
    public, now = means.identity.public, means.now()
    header = msgspec.structs.replace(means.header("update", "r", number, audience=public), sender=ANN.public)
    return seal_bytes(ANN, header, payload, [read_prekey(means.prekeys.published(), public, now)])


def collecting(coordinator: ANode, strategy: Strategy = FEDAVG) -> Collect:
    scheme = Scheme(PLAN, strategy)
    checkpoints = Checkpoints(coordinator.open.means.runs / "r", scheme.model)
    return Collect(coordinator.open.means, "r", scheme, checkpoints, population=8)


async def count(collect: Collect, path: Path) -> None:
    report = await collect.check(path, ANN.public)
    await collect.fold(path, ANN.public, report)


STEPS = st.lists(
    st.one_of(st.tuples(st.integers(-9, 9), st.integers(1, 9)), st.just("the worker dies")), min_size=1, max_size=8
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
async def test_the_mean_is_of_all_that_were_counted_though_the_worker_dies_at_any_time(
    coordinator: ANode, update: Callable[..., Path], steps: list[tuple[int, int] | str]
) -> None:
    collect = collecting(coordinator)
    counted: list[tuple[int, int]] = []
    await collect.begin(1)
    for step in steps:
        if isinstance(step, str):
            coordinator.folder_engine.seats[-1].broken = True
        else:
            await count(collect, update(*step))
            counted.append(step)

    if counted:
        expected = sum(value * weight for value, weight in counted) / sum(weight for _, weight in counted)
        np.testing.assert_allclose(numbers((await collect.result())[0]), expected, rtol=1e-5, atol=1e-5)
    else:
        with pytest.raises(GridError):
            await collect.result()
    await collect.close()
    assert coordinator.folder_engine.taken == 0


async def test_a_round_begins_empty_and_its_updates_go_when_it_is_done(
    coordinator: ANode, update: Callable[..., Path]
) -> None:
    collect = collecting(coordinator)
    await collect.begin(1)
    first = update(1.0, 5)
    await count(collect, first)
    await collect.result()
    for path in collect.forget():
        path.unlink()
    assert not first.exists()

    await collect.begin(2)
    await count(collect, update(3.0, 5, number=2))

    assert numbers((await collect.result())[0]).tolist() == [3.0] * 4
    await collect.close()


async def test_what_is_refused_is_no_part_of_the_mean(coordinator: ANode, update: Callable[..., Path]) -> None:
    collect = collecting(coordinator)
    await collect.begin(1)
    await count(collect, update(1.0, 5))

    with pytest.raises(UpdateRefused, match="not finite"):
        await collect.check(update(np.nan, 5), ANN.public)
    with pytest.raises(UpdateRefused, match="how many examples"):
        await collect.check(update(9.0, 0), ANN.public)
    with pytest.raises(EnvelopeRefused):
        await collect.check(update(9.0, 5, number=2), ANN.public)

    assert numbers((await collect.result())[0]).tolist() == [1.0] * 4
    await collect.close()
