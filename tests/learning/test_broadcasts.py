from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grid.learning.arrays import views
from grid.learning.broadcasts import Rounding
from grid.learning.folding import Folding, Place
from grid.learning.layouts import broadcast_layout, model_layout, state_layout
from grid.learning.spans import store, widened
from grid.learning.strategy import (
    BROADCASTS,
    PRESETS,
    BFloat16,
    Exact,
    Strategy,
    Synchronous,
    read_strategy,
    travelling,
)
from grid.learning.tensors import Layout, TensorSpec
from grid.learning.weighing import Told
from grid.wire.problems import StrategyRefused

LAYOUT = Layout(
    [
        TensorSpec("w", "F32", (40, 31)),
        TensorSpec("mean", "F32", (3,)),
        TensorSpec("wide", "F64", (2,)),
        TensorSpec("half", "F16", (5,)),
        TensorSpec("seen", "I64", ()),
        TensorSpec("none", "F32", (0, 4)),
    ]
)
STATISTICS = ("mean", "seen")
ROUNDED = Strategy(broadcast=BFloat16())
SPECIAL = [0x7F800000, 0xFF800000, 0x7FC00000, 0x7FFFFFFF, 0x7F800001, 0x7F7FFFFF, 0x80000000, 1, 0x007FFFFF]
TIES = [0x3F808000, 0x3F818000, 0xBF808000, 0x3F808001, 0x3F807FFF, 0x00008000, 0x00018000, 0x7F7F8000]


def model(seed: int, strategy: Strategy = ROUNDED) -> memoryview:
    layout = model_layout(LAYOUT, strategy, STATISTICS)
    data = memoryview(bytearray(layout.size))
    rng = np.random.default_rng(seed)
    for array in views(layout, data).values():
        array[...] = rng.normal(size=array.shape) if array.dtype != np.int64 else seed
    return data


def received(data: memoryview, strategy: Strategy = ROUNDED) -> memoryview:
    return Rounding(strategy, LAYOUT, STATISTICS).received(data)


@given(st.lists(st.integers(0, 2**32 - 1) | st.sampled_from(SPECIAL + TIES), min_size=1, max_size=40))
def test_rounding_is_that_of_torch_for_every_pattern_of_bits(patterns: list[int]) -> None:
    values = np.array(patterns, np.uint32).view(np.float32)
    expected = torch.from_numpy(values.copy()).to(torch.bfloat16)

    half = np.empty(len(values), "<u2")
    store(values, half, "BF16")

    none = np.isnan(values)
    np.testing.assert_array_equal(half[~none], expected.view(torch.uint16).numpy()[~none])
    assert np.isnan(widened(half, "BF16")[none]).all()


def test_half_of_the_bytes_of_the_parameters_travel_and_all_of_everything_else() -> None:
    wire = broadcast_layout(LAYOUT, ROUNDED, STATISTICS)

    assert {spec.name: spec.dtype for spec in wire.specs} == {
        "wide": "F64",
        "seen": "I64",
        "mean": "F32",
        "w": "BF16",
        "none": "BF16",
        "half": "F16",
    }
    assert LAYOUT.size - wire.size == 40 * 31 * 2
    assert broadcast_layout(LAYOUT, Strategy(), STATISTICS) == LAYOUT


def test_control_variates_travel_as_they_are() -> None:
    scaffold = travelling(PRESETS["scaffold"], broadcast="bf16")
    wire = broadcast_layout(LAYOUT, scaffold, STATISTICS)

    assert wire.by_name["control:w"].spec.dtype == "F32"
    assert wire.by_name["w"].spec.dtype == "BF16"


@given(st.integers(0, 1000))
def test_what_is_received_is_the_nearest_of_256_steps_and_stays_when_it_is_sent_again(seed: int) -> None:
    sent = model(seed)

    came, ours = views(LAYOUT, received(sent)), views(LAYOUT, sent)

    assert (np.abs(came["w"] - ours["w"]) <= np.abs(ours["w"]) / 256).all()
    for name in ("mean", "wide", "half", "seen"):
        np.testing.assert_array_equal(came[name], ours[name])
    assert received(received(sent)) == received(sent)
    assert received(sent, Strategy()) is sent


def folded(strategy: Strategy, current: memoryview, updates: list[memoryview]) -> dict[str, np.ndarray]:
    """The next model of one round."""
    layout = model_layout(LAYOUT, strategy, STATISTICS)
    outbox = memoryview(bytearray(layout.size))
    state = memoryview(bytearray(state_layout(LAYOUT, strategy, STATISTICS).size))
    folding = Folding(strategy, LAYOUT, Place(outbox, state), STATISTICS)
    folding.begin(current)
    for update in updates:
        folding.check(update)
        folding.fold(update, Told(1.0, loss=1.0, normaliser=1.0))
    folding.result()
    return views(layout, outbox)


SYNCHRONOUS = sorted(name for name, each in PRESETS.items() if each.timing == Synchronous())


@pytest.mark.parametrize("name", SYNCHRONOUS)
def test_those_who_learned_nothing_change_nothing_of_the_servers_own_numbers(name: str) -> None:
    """Nothing that rounding cut off is lost: updates that are the model as it came give w again, bit for bit."""
    strategy = travelling(PRESETS[name], broadcast="bf16")
    current = model(7, strategy)

    after = folded(strategy, current, [received(current, strategy)] * 7)

    np.testing.assert_array_equal(after["w"], views(model_layout(LAYOUT, strategy, STATISTICS), current)["w"])


@pytest.mark.parametrize("name", SYNCHRONOUS)
def test_the_step_is_that_of_the_exact_strategy_from_the_rounded_model(name: str) -> None:
    exact, strategy = PRESETS[name], travelling(PRESETS[name], broadcast="bf16")
    layout = model_layout(LAYOUT, strategy, STATISTICS)
    current = model(7, strategy)
    base = received(current, strategy)
    updates = [memoryview(bytearray(base)) for _ in range(7)]
    for number, update in enumerate(updates):
        views(layout, update)["w"][...] += np.random.default_rng(number).normal(scale=0.01, size=(40, 31))

    step = folded(exact, base, updates)["w"] - views(layout, base)["w"]

    ours = folded(strategy, current, updates)["w"] - views(layout, current)["w"]
    np.testing.assert_allclose(ours, step, atol=2e-6)


def test_steps_finer_than_the_rounding_add_up() -> None:
    """A thousandth of the distance of two bfloat16 numbers, 500 times: what arithmetic in bfloat16 would lose."""
    layout = Layout([TensorSpec("w", "F32", (1,))])
    outbox = memoryview(bytearray(np.ones(1, np.float32).tobytes()))
    folding, rounding = Folding(ROUNDED, layout, Place(outbox)), Rounding(ROUNDED, layout)
    for _ in range(500):
        current = memoryview(bytes(outbox))
        folding.begin(current)
        update = np.frombuffer(rounding.received(current), np.float32) + np.float32(2**-17)
        folding.fold(memoryview(update.tobytes()), Told(1.0))
        folding.result()

    assert np.frombuffer(outbox, np.float32)[0] == pytest.approx(1 + 500 * 2**-17, abs=1e-6)


def test_broadcasts_are_parts_of_strategies_and_go_with_updates_of_known_models() -> None:
    chosen = travelling(PRESETS["fedavg"], "int8", "bf16")

    assert chosen.names_base
    assert chosen.needs_current
    assert read_strategy({"broadcast": {"name": "bf16"}}).broadcast == BROADCASTS["bf16"]
    assert read_strategy({}).broadcast == Exact()
    assert not travelling(PRESETS["fedbuff"], broadcast="bf16").names_base  # what was learned says it all
    with pytest.raises(StrategyRefused, match="mixes in whole models"):
        travelling(PRESETS["fedasync"], broadcast="bf16")
    with pytest.raises(StrategyRefused, match="no encoding 'fp8'; there are exact, bf16"):
        travelling(PRESETS["fedavg"], broadcast="fp8")
    with pytest.raises(StrategyRefused, match="fp8"):
        read_strategy({"broadcast": {"name": "fp8"}})
