from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from grid.learning import numpy_training, training
from grid.learning.arrays import Array, views
from grid.learning.plan import Plan
from grid.learning.recipe import Adam, AdamW, Limits, Sgd, Transform
from grid.learning.state import tensor_views
from grid.learning.strategy import Prox, Scaffold
from grid.wire.problems import PlanRefused

RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((300, 12)).astype(np.float32)
SCORES = FEATURES @ RNG.standard_normal((12, 6))
DATA = {
    "cross_entropy": SCORES.argmax(1),
    "mse": SCORES.astype(np.float32),
    "bce_with_logits": (SCORES[:, :1] > 0).astype(np.int64),
}
WIDE = {"cross_entropy": 6, "mse": 6, "bce_with_logits": 1}


def dataset(loss: str) -> dict[str, Array]:
    return {"features": FEATURES, "target": DATA[loss]}


def both(plan: Plan, data: dict[str, Array], rounds: int = 5, **rest: Any) -> list[tuple[bytes, list[Any]]]:
    """The model after some rounds of either engine, and what it said of each round."""
    found = []
    for engine, opened in ((training, tensor_views), (numpy_training, views)):
        buffer = bytearray(plan.initial)
        state: Any = opened(plan.layout, buffer)
        trainer: Any = engine.Trainer(plan, data)
        said = []
        for number in range(rounds):
            fitted, score = trainer.fit(state, round_number=number, **rest), trainer.evaluate(state)
            said.append([fitted.examples, fitted.steps, fitted.loss, fitted.lr, score.loss, *score.metrics.values()])
        found.append((bytes(buffer), said))
    return found


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "bce_with_logits"])
@pytest.mark.parametrize(
    "optimizer",
    [
        Sgd(lr=0.1),
        Sgd(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
        Adam(lr=0.01, weight_decay=0.01),
        AdamW(lr=0.01),
    ],
    ids=lambda rule: f"{type(rule).__name__} {rule.lr:g}",
)
def test_numpy_and_torch_learn_the_same_model(loss: Any, optimizer: Any) -> None:
    metrics: Any = {
        "bce_with_logits": ("accuracy", "mse", "mae"),
        "mse": ("mse",),
        "cross_entropy": ("accuracy", "top5"),
    }
    plan = Plan.linear(12, WIDE[loss], loss=loss, optimizer=optimizer, epochs=2, clip=1.0, metrics=metrics[loss])

    (one, said), (other, also) = both(plan.with_(transform=Transform(shift=0.1, scale=2.0)), dataset(loss))

    assert np.frombuffer(one, np.float32) == pytest.approx(np.frombuffer(other, np.float32), abs=1e-5)
    assert np.array(said) == pytest.approx(np.array(also), abs=1e-5)
    assert one != plan.initial


def test_the_pull_of_fedprox_is_the_same() -> None:
    plan = Plan.linear(12, 6, lr=0.1, epochs=3)
    (one, _), (other, _) = both(plan, dataset("cross_entropy"), rule=Prox(mu=0.5))
    assert np.frombuffer(one, np.float32) == pytest.approx(np.frombuffer(other, np.float32), abs=1e-5)


def test_what_is_not_linear_needs_torch() -> None:
    linear = Plan.linear(12, 6)
    for plan in (
        Plan.mlp([12, 8, 6]),
        Plan.cnn((1, 4, 4), 2, channels=(2,)),
        linear.with_(loss="l1"),
        linear.with_(optimizer="adagrad"),
    ):
        with pytest.raises(PlanRefused, match="no torch; it can train linear plans only"):
            numpy_training.Trainer(plan, dataset("cross_entropy"))
    trainer = numpy_training.Trainer(linear, dataset("cross_entropy"))
    with pytest.raises(PlanRefused, match="FedAvg and FedProx"):
        trainer.fit(views(linear.layout, bytearray(linear.initial)), rule=Scaffold())


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ({"features": FEATURES}, "no tensor 'target'"),
        ({"features": FEATURES[:, :4], "target": DATA["cross_entropy"]}, r"\[300, 4\]"),
        ({"features": FEATURES[:100], "target": DATA["cross_entropy"]}, "numbers of rows"),
        ({"features": FEATURES, "target": RNG.random(300)}, "not whole numbers"),
        ({"features": FEATURES, "target": DATA["cross_entropy"] + 1}, "6 classes"),
        ({"features": FEATURES[:30], "target": DATA["cross_entropy"][:30]}, "gradient inversion"),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused_as_with_torch(data: Any, word: str) -> None:
    for engine in (training, numpy_training):
        with pytest.raises(PlanRefused, match=word):
            engine.Trainer(Plan.linear(12, 6), data)


def test_a_node_grants_no_more_than_its_limits() -> None:
    plan, data = Plan.linear(12, 6), dataset("cross_entropy")
    with pytest.raises(PlanRefused, match="memory"):
        numpy_training.Trainer(plan, data, limits=Limits(memory=100))
    trainer = numpy_training.Trainer(plan, data, limits=Limits(maximum_steps=3))
    with pytest.raises(PlanRefused, match="grants 3"):
        trainer.fit(views(plan.layout, bytearray(plan.initial)))


def test_nothing_held_out_is_no_score() -> None:
    plan = Plan.linear(12, 6)
    score = numpy_training.Trainer(plan, dataset("cross_entropy"), held_out=0.0).evaluate(
        views(plan.layout, bytearray(plan.initial))
    )
    assert (score.examples, score.loss, score.metrics) == (0, None, {})
