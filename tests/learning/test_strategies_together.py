"""Clients and server of a strategy together, on data that differ from client to client: what each was made for."""

from __future__ import annotations

import numpy as np
import pytest

from grid.learning.arrays import views
from grid.learning.client_rules import finish
from grid.learning.folding import Folding, Place
from grid.learning.layouts import first_model, model_layout, own_layout, state_layout
from grid.learning.plan import Plan
from grid.learning.state import tensor_views
from grid.learning.strategy import PRESETS, QFair, Strategy, named
from grid.learning.training import Arrays, Trainer
from grid.learning.weighing import Told

EXAMPLES = 64
PLAN = Plan.linear(2, 1, loss="mse", lr=0.1, batch=EXAMPLES)  # one batch is all: a step is a step of gradient descent


def two_hospitals() -> list[Arrays]:
    """The same two features, spread and answered differently: the best model of each is far from the other's."""
    rng, clients = np.random.default_rng(5), []
    for spread, truth in (([2.0, 0.5], [1.0, 0.0]), ([0.5, 1.0], [-1.0, 2.0])):
        features = rng.standard_normal((EXAMPLES, 2)) * spread
        answers = features @ truth + 0.1 * rng.standard_normal(EXAMPLES)
        clients.append({"features": features, "target": answers[:, None].astype(np.float32)})
    return clients


DATA = two_hospitals()


def best_for_all() -> np.ndarray:
    """The minimum of the mean loss: weights and bias."""
    x = np.vstack([np.hstack([d["features"], np.ones((EXAMPLES, 1))]) for d in DATA])
    return np.linalg.lstsq(x, np.concatenate([d["target"] for d in DATA]), rcond=None)[0].ravel()


def federated(strategy: Strategy, rounds: int, steps: tuple[int, int]) -> np.ndarray:
    """The model after some rounds of both clients, who take so many steps in each."""
    down, state = model_layout(PLAN.layout, strategy), state_layout(PLAN.layout, strategy)
    owned = own_layout(PLAN.layout, strategy)
    owns = [tensor_views(owned, bytearray(owned.size)) for _ in DATA]
    trainers = [Trainer(PLAN, data, held_out=0.0) for data in DATA]
    outbox = memoryview(bytearray(b"".join(first_model(down, PLAN.values))))
    folding = Folding(strategy, PLAN.layout, Place(outbox, memoryview(bytearray(state.size))))
    for _ in range(rounds):
        model = bytes(outbox)
        folding.begin(memoryview(model), population=len(DATA))
        for trainer, own, amount in zip(trainers, owns, steps, strict=True):
            came, made = (tensor_views(down, buffer := bytearray(model)) for _ in range(2))
            loss = trainer.evaluate(came, "train").loss
            fitted = trainer.fit(made, steps=amount, rule=strategy.client, server=came, own=own)
            numbers = finish(strategy, PLAN.recipe, fitted, came, made, own)
            if isinstance(strategy.aggregation, QFair):
                numbers["loss"] = loss or 0.0
            folding.check(memoryview(buffer))
            folding.fold(memoryview(buffer), Told(fitted.examples, **numbers))
        folding.result()
    found = views(down, outbox)
    return np.concatenate([found["0.weight"].ravel(), found["0.bias"]])


def distance(found: np.ndarray) -> float:
    return float(np.linalg.norm(found - best_for_all()))


def test_scaffold_finds_the_common_minimum_where_fedavg_stays_beside_it() -> None:
    assert distance(federated(PRESETS["fedavg"], 40, (20, 20))) > 0.1
    assert distance(federated(PRESETS["scaffold"], 80, (20, 20))) < 1e-3


def test_a_pull_keeps_clients_nearer_together() -> None:
    plain = distance(federated(PRESETS["fedavg"], 40, (20, 20)))

    assert distance(federated(named("fedprox", mu=5.0), 80, (20, 20))) < plain / 2


def test_fednova_does_not_lean_to_who_takes_more_steps() -> None:
    """With steps this small, clients drift little; what remains is the weight that many steps give."""
    lean = distance(federated(PRESETS["fedavg"], 150, (1, 8)))

    assert distance(federated(PRESETS["fednova"], 150, (1, 8))) < 0.7 * lean


def test_q_fedavg_makes_losses_more_even() -> None:
    def losses(model: np.ndarray) -> list[float]:
        return [float(np.mean((d["features"] @ model[:2] + model[2] - d["target"].ravel()) ** 2)) for d in DATA]

    plain = losses(federated(named("q-fedavg", q=0.0), 80, (3, 3)))
    fair = losses(federated(named("q-fedavg", q=2.0), 400, (3, 3)))

    assert max(fair) - min(fair) < (max(plain) - min(plain)) / 2


@pytest.mark.parametrize("name", ["fedavgm", "fedadam", "fedyogi", "fedadagrad", "fedbuff"])
def test_server_rules_get_to_where_fedavg_gets(name: str) -> None:
    strategy = named("fedbuff", size=2) if name == "fedbuff" else PRESETS[name]
    there = federated(PRESETS["fedavg"], 80, (3, 3))

    assert np.linalg.norm(federated(strategy, 300, (3, 3)) - there) < 0.15
