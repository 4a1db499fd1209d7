from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.learning.arrays import views
from grid.learning.codec import Codec, residual_of
from grid.learning.layouts import INDEX, INT8, RESIDUAL, SCALE, VALUE, residual_layout, upload_layout
from grid.learning.strategy import Exact, Int8, Strategy, TopK, Upload, named, read_strategy, travelling
from grid.learning.tensors import Layout, TensorSpec
from grid.wire.problems import StrategyRefused, UpdateRefused

PLAN = Layout(
    [
        TensorSpec("count", "I64", ()),
        TensorSpec("mean", "F32", (3,)),
        TensorSpec("w", "F32", (40, 31)),
        TensorSpec("b", "F16", (5,)),
    ]
)
STATISTICS = ("mean", "count")


def model(seed: int) -> memoryview:
    data = memoryview(bytearray(PLAN.size))
    rng = np.random.default_rng(seed)
    for array in views(PLAN, data).values():
        array[...] = rng.normal(size=array.shape) if array.dtype != np.int64 else seed
    return data


def sent(upload: Upload, before: memoryview, after: memoryview, residual: np.ndarray | None = None) -> memoryview:
    """An update as it travels."""
    strategy = Strategy(upload=upload)
    wire = memoryview(bytearray(upload_layout(PLAN, strategy, STATISTICS).size))
    left = np.zeros(1245, np.float32) if residual is None else residual
    Codec(strategy, PLAN, STATISTICS).encode(before, after, left, wire)
    return wire


def came(upload: Upload, wire: memoryview, before: memoryview) -> memoryview:
    target = memoryview(bytearray(PLAN.size))
    Codec(Strategy(upload=upload), PLAN, STATISTICS).decode(wire, before, target)
    return target


def parts(upload: Upload, wire: memoryview) -> dict[str, np.ndarray]:
    return views(upload_layout(PLAN, Strategy(upload=upload), STATISTICS), wire)


@given(st.integers(0, 1000))
def test_a_byte_for_each_number_is_off_by_half_a_step_at_most(seed: int) -> None:
    before, after = model(seed), model(seed + 1)

    plain, back = views(PLAN, after), views(PLAN, came(Int8(), sent(Int8(), before, after), before))

    came_from = views(PLAN, before)  # a block may reach from one tensor into the next, and has one scale
    step = max(np.abs(plain[name].astype(np.float32) - came_from[name]).max() for name in ("w", "b")) / 127
    assert np.abs(back["w"] - plain["w"]).max() <= 0.51 * step
    np.testing.assert_array_equal(back["mean"], plain["mean"])
    assert back["count"] == plain["count"]


@pytest.mark.parametrize("upload", [Int8(), TopK(0.1)])
def test_what_is_left_out_of_one_update_comes_with_those_that_follow(upload: Upload) -> None:
    before, after, residual, got = model(1), model(2), np.zeros(1245, np.float32), np.zeros((40, 31))
    wanted = views(PLAN, after)["w"].astype(np.float64) - views(PLAN, before)["w"]

    for _ in range(60):
        back = views(PLAN, came(upload, sent(upload, before, after, residual), before))
        got += back["w"].astype(np.float64) - views(PLAN, before)["w"]

    np.testing.assert_allclose(got / 60, wanted, atol=0.25 if isinstance(upload, TopK) else 1e-3)


def test_only_what_moved_furthest_travels() -> None:
    before, after = model(1), model(2)
    upload = TopK(0.01)

    wire = parts(upload, sent(upload, before, after))

    assert len(wire[INDEX]) == 13
    moved = np.abs(views(PLAN, after)["w"] - views(PLAN, before)["w"]).ravel()
    assert set(np.argsort(moved)[-5:]) <= {int(place) for place in wire[INDEX]}


@pytest.mark.parametrize("spoilt", [np.nan, np.inf, -1.0, 1e20])
def test_scales_that_no_encoder_writes_are_refused(spoilt: float) -> None:
    wire = sent(Int8(), model(1), model(2))
    parts(Int8(), wire)[SCALE][1] = spoilt

    with pytest.raises(UpdateRefused, match="scales"):
        came(Int8(), wire, model(1))


@pytest.mark.parametrize(("at", "place"), [(0, -1), (-1, 1245), (3, 0), (-1, 2**31 - 1)])
def test_places_outside_the_model_twice_or_out_of_order_are_refused(at: int, place: int) -> None:
    upload = TopK(0.01)
    wire = sent(upload, model(1), model(2))
    parts(upload, wire)[INDEX][at] = place

    with pytest.raises(UpdateRefused, match="places"):
        came(upload, wire, model(1))


def test_numbers_that_are_none_are_refused() -> None:
    upload = TopK(0.01)
    wire = sent(upload, model(1), model(2))
    parts(upload, wire)[VALUE][0] = np.nan

    with pytest.raises(UpdateRefused, match="not finite"):
        came(upload, wire, model(1))


def test_a_byte_for_each_number_is_a_quarter_of_the_bytes_within_two_percent() -> None:
    plan = Layout([TensorSpec("w", "F32", (64, 400))])

    assert upload_layout(plan, Strategy(upload=Int8())).size <= 0.25 * 1.02 * plan.size


def test_an_update_of_no_change_is_one() -> None:
    wire = sent(Int8(), model(1), model(1))

    assert not parts(Int8(), wire)[INT8].any()
    np.testing.assert_array_equal(came(Int8(), wire, model(1)), model(1))


def test_what_is_kept_is_a_number_for_each_parameter() -> None:
    kept = residual_layout(PLAN, Strategy(upload=Int8()), STATISTICS)

    assert kept.by_name[RESIDUAL].spec.shape == (1245,)
    assert len(residual_of(memoryview(bytearray(kept.size)))) == 1245
    assert residual_layout(PLAN, Strategy(), STATISTICS).size == 0


def test_encodings_are_parts_of_strategies_and_go_with_rounds_that_begin_together() -> None:
    chosen = travelling(named("fedadam"), "int8")

    assert chosen.upload == Int8()
    assert read_strategy({}).upload == Exact()
    with pytest.raises(StrategyRefused, match="late updates began with another"):
        travelling(named("fedbuff"), "int8")
    with pytest.raises(StrategyRefused, match="no encoding 'zip'; there are exact, int8, top-k"):
        travelling(named("fedavg"), "zip")
