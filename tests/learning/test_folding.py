"""Mean-type strategies against closed forms, written down naively in float64."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from grid.learning.arrays import views
from grid.learning.folding import Folding, Place
from grid.learning.layouts import model_layout, state_layout
from grid.learning.spans import BLOCK
from grid.learning.strategy import PRESETS, Average, Mean, Momentum, Nova, Strategy, named
from grid.learning.tensors import Layout, TensorSpec
from grid.learning.weighing import Told
from grid.wire.problems import StrategyRefused, UpdateRefused
from tests.learning.oracle import LAYOUT, SIZE, Played, Vector, lists, played, vectors

RNG = np.random.default_rng(7)
W = RNG.standard_normal(SIZE)
UPDATES = [W + RNG.standard_normal(SIZE) for _ in range(4)]
EXAMPLES = np.array([10.0, 40.0, 25.0, 25.0])
TOLD = [Told(n) for n in EXAMPLES]
P = EXAMPLES / EXAMPLES.sum()


def near(found: Vector, expected: ArrayLike, scale: float = 1.0) -> bool:
    return bool(np.allclose(found, expected, rtol=2e-5, atol=2e-6 * max(scale, 1.0)))


# --- one step --------------------------------------------------------------------------------------


def test_fedavg_is_the_weighted_mean() -> None:
    assert near(played(PRESETS["fedavg"], W, UPDATES, TOLD), P @ UPDATES)


def test_a_uniform_mean_does_not_look_at_examples() -> None:
    assert near(played(Strategy(aggregation=Mean(weight="uniform")), W, UPDATES, TOLD), np.mean(UPDATES, axis=0))


def test_a_server_that_averages_goes_a_share_of_the_way() -> None:
    strategy = Strategy(server=Average(lr=0.25))

    assert near(played(strategy, W, UPDATES, TOLD), W + 0.25 * (P @ UPDATES - W))


def test_fedprox_changes_clients_only() -> None:
    assert (played(PRESETS["fedprox"], W, UPDATES, TOLD) == played(PRESETS["fedavg"], W, UPDATES, TOLD)).all()


def test_fednova_is_equation_of_section_4() -> None:
    a = np.array([5.0, 20.0, 1.0, 50.0])
    directions = [(w - W) / each for w, each in zip(UPDATES, a, strict=True)]
    told = [Told(n, normaliser=each) for n, each in zip(EXAMPLES, a, strict=True)]

    assert near(played(PRESETS["fednova"], W, UPDATES, told), W + (P @ a) * (P @ directions))


def test_fednova_of_equal_steps_is_fedavg() -> None:
    told = [Told(n, normaliser=12.0) for n in EXAMPLES]

    assert near(played(PRESETS["fednova"], W, UPDATES, told), P @ UPDATES)


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0, 3.0])
def test_q_fedavg_is_algorithm_2(q: float) -> None:
    losses, lipschitz = np.array([0.2, 1.0, 3.0, 0.7]), 4.0
    told = [Told(n, loss=loss) for n, loss in zip(EXAMPLES, losses, strict=True)]
    gradients = [lipschitz * (W - w) for w in UPDATES]
    deltas = [loss**q * g for loss, g in zip(losses, gradients, strict=True)]
    curvatures = [
        q * loss ** (q - 1) * np.sum(g**2) + lipschitz * loss**q for loss, g in zip(losses, gradients, strict=True)
    ]
    expected = W - np.sum(deltas, axis=0) / np.sum(curvatures)

    assert near(played(named("q-fedavg", q=q, lipschitz=lipschitz), W, UPDATES, told), expected)


def test_q_fedavg_survives_a_client_without_any_loss() -> None:
    told = [Told(1, loss=0.0), Told(1, loss=2.0)]

    assert np.isfinite(played(named("q-fedavg", q=0.5), W, UPDATES[:2], told)).all()


def test_fedbuff_adds_deltas_by_staleness_and_divides_by_their_number() -> None:
    ages = [0, 3, 8, 0]
    told = [Told(n, staleness=age) for n, age in zip(EXAMPLES, ages, strict=True)]
    deltas = [w - W for w in UPDATES]
    expected = W + sum(d / np.sqrt(1 + age) for d, age in zip(deltas, ages, strict=True)) / 4

    assert near(played(named("fedbuff", size=4), W, deltas, told), expected)


def test_fedasync_mixes_each_update_in_as_it_comes() -> None:
    server, expected = Played(PRESETS["fedasync"]), W.copy()
    server.folding.begin(memoryview(W.astype(np.float32).tobytes()))
    for update, age in zip(UPDATES, (0, 1, 4, 0), strict=True):
        server.folding.fold(memoryview(update.astype(np.float32).tobytes()), Told(5.0, staleness=age))
        server.folding.result()
        server.folding.begin()  # goes on from where it is
        alpha = 0.6 * (1 + age) ** -0.5
        expected = (1 - alpha) * expected + alpha * update

    assert near(np.frombuffer(server.outbox, np.float32), expected)


# --- server optimizers, over several rounds -----------------------------------------------------------


def rounds_of(strategy: Strategy, rounds: int = 4) -> tuple[list[Vector], list[Vector], Played]:
    """The deltas that the server saw, the models it made of them, and the server."""
    server, w = Played(strategy), W
    rng, deltas, models = np.random.default_rng(1), [], []
    for _ in range(rounds):
        updates = [w + rng.standard_normal(SIZE) for _ in TOLD]
        deltas.append(P @ updates - w)
        models.append(w := server.round(w, updates, TOLD).astype(np.float64))
    return deltas, models, server


def test_fedavgm_keeps_its_momentum() -> None:
    deltas, models, _ = rounds_of(named("fedavgm", beta=0.7, lr=0.5))
    w, v = W, np.zeros(SIZE)
    for delta, model in zip(deltas, models, strict=True):
        v = 0.7 * v + delta
        w = w + 0.5 * v
        assert near(model, w)


@pytest.mark.parametrize("name", ["fedadagrad", "fedadam", "fedyogi"])
def test_adaptive_servers_are_algorithm_2(name: str) -> None:
    beta1, beta2, lr, tau = 0.8, 0.95, 0.3, 0.01
    numbers = {"beta1": beta1, "lr": lr, "tau": tau} | ({} if name == "fedadagrad" else {"beta2": beta2})
    deltas, models, _ = rounds_of(named(name, **numbers))
    w, m, v = W, np.zeros(SIZE), np.full(SIZE, tau**2)
    for delta, model in zip(deltas, models, strict=True):
        m = beta1 * m + (1 - beta1) * delta
        v = {
            "fedadagrad": v + delta**2,
            "fedadam": beta2 * v + (1 - beta2) * delta**2,
            "fedyogi": v - (1 - beta2) * delta**2 * np.sign(v - delta**2),
        }[name]
        w = w + lr * m / (np.sqrt(v) + tau)
        assert near(model, w)


@pytest.mark.parametrize("name", ["fedavgm", "fedadam", "fedyogi", "fedadagrad"])
def test_a_server_that_is_given_its_state_back_goes_on_bit_for_bit(name: str) -> None:
    undisturbed, restarted = Played(PRESETS[name]), Played(PRESETS[name])
    w = undisturbed.round(W, UPDATES)
    assert (restarted.round(W, UPDATES) == w).all()

    kept, restarted = bytes(restarted.state), Played(PRESETS[name])
    restarted.state[:] = kept

    assert restarted.round(w, UPDATES[::-1]).tobytes() == undisturbed.round(w, UPDATES[::-1]).tobytes()


def test_server_optimizers_go_with_any_aggregate() -> None:
    strategy = Strategy(client=Nova(), server=Momentum(beta=0.5))
    told = [Told(n, normaliser=3.0) for n in EXAMPLES]

    assert near(played(strategy, W, UPDATES, told), P @ UPDATES)


# --- properties ----------------------------------------------------------------------------------------

MEANS = {name: strategy for name, strategy in PRESETS.items() if not strategy.holds_updates and name != "scaffold"}
SIMPLE = st.sampled_from([named(n, size=1) if n == "fedbuff" else s for n, s in MEANS.items()])


def full(examples: float, number: int) -> Told:
    return Told(examples, loss=0.5 + number, normaliser=1.0 + number, staleness=number)


@given(SIMPLE, vectors, lists(1), st.randoms())
@settings(max_examples=60, deadline=None)
def test_the_order_of_arrival_does_not_matter(strategy: Strategy, w: Vector, updates: list[Vector], dice: Any) -> None:
    numbered = [(update, full(1 + place, place)) for place, update in enumerate(updates)]
    mixed = sorted(numbered, key=lambda _: dice.random())
    one, two = (played(strategy, w, *zip(*each, strict=True)) for each in (numbered, mixed))

    assert near(one, two, scale=16)


@given(st.sampled_from(["fedavg", "fedavgm", "fednova", "q-fedavg", "fedasync"]), vectors, vectors, lists(1))
@settings(max_examples=60, deadline=None)
def test_moving_all_models_moves_the_result_along(name: str, w: Vector, by: Vector, updates: list[Vector]) -> None:
    told = [full(1 + place, place) for place in range(len(updates))]
    stayed = played(PRESETS[name], w, updates, told)
    moved = played(PRESETS[name], w + by, [update + by for update in updates], told)

    assert near(moved, stayed + by, scale=32)


@given(st.sampled_from(["fedavg", "fedavgm", "fednova", "fedasync"]), vectors, lists(1), st.sampled_from([0.5, 2.0, 8]))
@settings(max_examples=60, deadline=None)
def test_scaled_models_give_a_scaled_result(name: str, w: Vector, updates: list[Vector], factor: float) -> None:
    told = [full(1 + place, place) for place in range(len(updates))]
    one = played(PRESETS[name], w, updates, told)
    two = played(PRESETS[name], w * factor, [update * factor for update in updates], told)

    assert near(two, one * factor, scale=64)


@given(SIMPLE, vectors)
@settings(max_examples=60, deadline=None)
def test_who_learned_nothing_changes_nothing(strategy: Strategy, w: Vector) -> None:
    update = np.zeros_like(w) if strategy.sends_delta else w

    assert near(played(strategy, w, [update, update], [full(1, 0), full(2, 1)]), w, scale=8)


# --- control variates, statistics, dtypes ---------------------------------------------------------------


def test_scaffold_moves_the_model_by_the_mean_and_the_variate_by_the_share_of_those_who_came() -> None:
    layout = model_layout(LAYOUT, PRESETS["scaffold"])
    outbox = memoryview(bytearray(layout.size))
    folding = Folding(PRESETS["scaffold"], LAYOUT, Place(outbox))
    control, changes = RNG.standard_normal(SIZE), [RNG.standard_normal(SIZE) for _ in UPDATES]
    folding.begin(memoryview(np.concatenate([W, control]).astype(np.float32).tobytes()), population=10)
    for update, change, told in zip(UPDATES, changes, TOLD, strict=True):
        data = memoryview(np.concatenate([update, change]).astype(np.float32).tobytes())
        folding.check(data)
        folding.fold(data, told)
    folding.result()
    found = views(layout, outbox)

    assert near(found["w"], np.mean(UPDATES, axis=0))
    assert near(found["control:w"], control + 4 / 10 * np.mean(changes, axis=0))


MIXED = Layout(
    [TensorSpec(name, name.partition("-")[0], (3,)) for name in ("F64", "F32", "F32-mean", "F16", "BF16", "I64")]
)


def data_of(value: float) -> memoryview:
    data = memoryview(bytearray(MIXED.size))
    for name, view in views(MIXED, data).items():
        view[:] = np.float32(value).view(np.uint32) >> 16 if name == "BF16" else value
    return data


def seen(data: memoryview) -> dict[str, float]:
    found = {name: view[0] for name, view in views(MIXED, data).items()}
    return {name: float(v) for name, v in found.items()} | {
        "BF16": float((np.uint32(found["BF16"]) << np.uint32(16)).view(np.float32))
    }


def test_statistics_are_averaged_plainly_whatever_the_server_does() -> None:
    strategy = Strategy(server=Momentum(lr=2.0, beta=0.5))
    state = memoryview(bytearray(state_layout(MIXED, strategy, ["F32-mean"]).size))
    folding = Folding(strategy, MIXED, Place(memoryview(bytearray(MIXED.size)), state), ["F32-mean"])
    folding.begin(data_of(1))
    folding.fold(data_of(2), Told(1))
    folding.fold(data_of(6), Told(3))
    folding.result()

    assert seen(folding._outbox) == {"F64": 9, "F32": 9, "F16": 9, "BF16": 9, "F32-mean": 5, "I64": 6}


def test_blocks_of_a_server_step_meet_without_a_seam() -> None:
    size = 2 * BLOCK + 17
    layout = Layout([TensorSpec("w", "F32", (size,)), TensorSpec("b", "F32", (3,))])
    server = Played(PRESETS["fedadam"], layout)
    w, update = np.zeros(size + 3), np.arange(size + 3) / size
    first = server.round(w, [update])

    assert near(first, 0.1 * 0.1 * update / (np.sqrt(1e-6 * 0.99 + 0.01 * update**2) + 1e-3))


# --- refusals and bounds ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "told", "word"),
    [
        ("q-fedavg", Told(1), "needs the loss"),
        ("fednova", Told(1), "needs the normaliser"),
        ("q-fedavg", Told(1, loss=float("nan")), "not believable"),
        ("q-fedavg", Told(1, loss=1e9), "not believable"),
        ("fedbuff", Told(1, staleness=-1), "staleness"),
        ("fedavg", Told(0), "weight"),
        ("fedavg", Told(float("nan")), "weight"),
    ],
)
def test_numbers_that_are_missing_or_not_believable_are_refused(name: str, told: Told, word: str) -> None:
    server = Played(PRESETS[name])
    data = memoryview(W.astype(np.float32).tobytes())
    server.folding.begin(data)

    with pytest.raises(UpdateRefused, match=word):
        server.folding.fold(data, told)


def test_a_refused_update_leaves_no_trace() -> None:
    server = Played(PRESETS["fednova"])
    data = [memoryview(u.astype(np.float32).tobytes()) for u in UPDATES]
    server.folding.begin(memoryview(W.astype(np.float32).tobytes()))
    server.folding.fold(data[0], Told(1, normaliser=2.0))
    with pytest.raises(UpdateRefused):
        server.folding.fold(data[1], Told(1))
    server.folding.result()

    assert near(np.frombuffer(server.outbox, np.float32), UPDATES[0])


def test_a_round_that_does_not_know_its_model_takes_no_update() -> None:
    with pytest.raises(UpdateRefused, match="without its model"):
        Played(PRESETS["fedadam"]).folding.fold(memoryview(bytes(LAYOUT.size)), Told(1))


def test_a_result_asked_for_twice_is_made_once_and_then_the_round_is_over() -> None:
    server = Played(PRESETS["fedavgm"])
    found = server.round(W, UPDATES, TOLD)
    server.folding.result()

    assert (np.frombuffer(server.outbox, np.float32) == found).all()
    with pytest.raises(UpdateRefused, match="over"):
        server.folding.fold(memoryview(bytes(LAYOUT.size)), Told(1))


def test_too_few_updates_are_no_result() -> None:
    with pytest.raises(StrategyRefused, match="3 updates; this strategy needs at least 5"):
        played(PRESETS["krum"], W, UPDATES[:3])
    with pytest.raises(StrategyRefused, match="0 updates"):
        played(PRESETS["fedavg"], W, [])


@pytest.mark.parametrize("name", ["fedavg", "fedadam", "fednova", "q-fedavg", "fedbuff"])
def test_memory_does_not_grow_with_the_number_of_clients(name: str) -> None:
    layout = Layout([TensorSpec("w", "F32", (1 << 20,))])
    few, many = (peak_of(PRESETS[name], layout, clients) for clients in (10, 40))
    models = {"fedavg": 1, "fedadam": 4}.get(name, 2)

    assert many < few + (64 << 10)
    assert many < models * layout.size + 4 * 4 * BLOCK


def peak_of(strategy: Strategy, layout: Layout, clients: int) -> int:
    """Bytes held at most by a round, its result among them."""
    update = memoryview(np.ones(layout.size // 4, np.float32)).cast("B")
    tracemalloc.start()
    try:
        server = Played(strategy, layout)
        server.folding.begin(update)
        for number in range(clients):
            server.folding.fold(update, full(1, number % 3))
        server.folding.result()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
