"""Client rules against the same training written down in numpy, for a linear model with a squared loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from grid.learning.client_rules import finish, normaliser
from grid.learning.layouts import own_layout, update_layout
from grid.learning.optimizers import stepper
from grid.learning.plan import Plan
from grid.learning.recipe import Schedule, Sgd
from grid.learning.state import State, tensor_views
from grid.learning.strategy import PRESETS, Prox, Strategy, named
from grid.learning.training import Arrays, Trainer

RNG = np.random.default_rng(3)
DATA: Arrays = {"features": RNG.standard_normal((100, 3)), "target": RNG.standard_normal((100, 2)).astype(np.float32)}
LR, STEPS = 0.1, 7
PLAN = Plan.linear(3, 2, loss="mse", lr=LR, batch=100, steps=STEPS, seed=1)  # one batch is all: no order, no noise
Matrix = NDArray[np.float64]
Trained = tuple[State, State, State, dict[str, float]]


def trained(plan: Plan, strategy: Strategy, server: Matrix | None = None, own: Matrix | None = None) -> Trained:
    """Down, up and own state of one fit; the variates are the rows (weight, then bias) of one matrix each."""
    layout, mine = update_layout(plan.layout, strategy), own_layout(plan.layout, strategy)
    came, made = (tensor_views(layout, bytearray(layout.size)) for _ in range(2))
    kept = tensor_views(mine, bytearray(mine.size))
    first = tensor_views(plan.layout, bytearray(plan.initial))
    for state in (came, made):
        for name, tensor in first.items():
            state[name].copy_(tensor)
    for state, variate in ((came, server), (made, server), (kept, own)):
        if variate is not None:
            state["control:0.weight"].copy_(torch.from_numpy(variate[:, :3]))
            state["control:0.bias"].copy_(torch.from_numpy(variate[:, 3]))
    trainer = Trainer(plan, DATA, held_out=0.0)
    fitted = trainer.fit(made, rule=strategy.client, server=came, own=kept)
    return came, made, kept, finish(strategy, plan.recipe, fitted, came, made, kept)


def matrix(state: State, prefix: str = "") -> Matrix:
    """Weight and bias as one matrix (2, 4)."""
    weight, bias = state[prefix + "0.weight"], state[prefix + "0.bias"]
    return torch.cat([weight, bias[:, None]], dim=1).detach().double().numpy()


def gradient(w: Matrix) -> Matrix:
    x = np.hstack([DATA["features"], np.ones((100, 1))])
    return 2 * (x @ w.T - DATA["target"]).T @ x / (100 * 2)


def near(found: Matrix, expected: Matrix) -> bool:
    return bool(np.allclose(found, expected, rtol=1e-4, atol=1e-5))


def test_the_proximal_pull_is_mu_times_the_way_so_far() -> None:
    came, made, *_ = trained(PLAN, Strategy(client=Prox(mu=2.0)))
    start = w = matrix(came)
    for _ in range(STEPS):
        w = w - LR * (gradient(w) + 2.0 * (w - start))

    assert near(matrix(made), w)


def test_no_pull_is_plain_training() -> None:
    made = [matrix(trained(PLAN, strategy)[1]) for strategy in (PRESETS["fedavg"], named("fedprox", mu=0.0))]

    assert (made[0] == made[1]).all()


def test_scaffold_is_algorithm_1_with_option_ii() -> None:
    c, c_i = RNG.standard_normal((2, 2, 4)) * 0.1
    came, made, own, _ = trained(PLAN, PRESETS["scaffold"], c, c_i)
    x = y = matrix(came)
    for _ in range(STEPS):
        y = y - LR * (gradient(y) - c_i + c)
    c_plus = c_i - c + (x - y) / (STEPS * LR)

    assert near(matrix(made), y)
    assert near(matrix(own, "control:"), c_plus)
    assert near(matrix(made, "control:"), c_plus - c_i)
    assert near(matrix(came, "control:"), c)  # what came is left alone


def test_no_step_changes_no_variate() -> None:
    scaffold = PRESETS["scaffold"]
    came, made, own, _ = trained(PLAN, scaffold, np.ones((2, 4)), np.ones((2, 4)))
    before = matrix(own, "control:").copy()
    fitted = Trainer(PLAN, DATA, held_out=0.0).fit(made, steps=0, rule=scaffold.client, server=came, own=own)
    finish(scaffold, PLAN.recipe, fitted, came, made, own)

    assert (matrix(own, "control:") == before).all()
    assert not matrix(made, "control:").any()


def test_scaffold_divides_by_the_rate_that_the_rounds_schedule_gave() -> None:
    plan = PLAN.with_(schedule=Schedule(gamma=0.5, every=1))
    fitted = Trainer(plan, DATA, held_out=0.0).fit(tensor_views(plan.layout, bytearray(plan.initial)), round_number=2)

    assert (fitted.steps, fitted.lr) == (STEPS, LR / 4)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_normaliser_is_how_far_unit_gradients_move_a_parameter(momentum: float, nesterov: bool) -> None:
    rule, weight = Sgd(momentum=momentum, nesterov=nesterov), torch.zeros(1, dtype=torch.float64)
    step = stepper(rule, [weight])
    for _ in range(STEPS):
        step([torch.ones(1, dtype=torch.float64)], LR)
    closed = STEPS if not momentum else (STEPS - momentum * (1 - momentum**STEPS) / (1 - momentum)) / (1 - momentum)

    assert normaliser(rule, STEPS) == pytest.approx(-weight.item() / LR)
    assert nesterov or normaliser(rule, STEPS) == pytest.approx(closed)


def test_a_fednova_client_reports_what_its_steps_amount_to() -> None:
    assert trained(PLAN, PRESETS["fednova"])[3] == {"normaliser": STEPS}


def test_a_fedbuff_client_sends_what_it_learned_and_not_a_model() -> None:
    came, plain, *_ = trained(PLAN, PRESETS["fedavg"])
    _, delta, *_ = trained(PLAN, PRESETS["fedbuff"])

    assert near(matrix(delta), matrix(plain) - matrix(came))


def test_clipping_bounds_the_records_gradient_and_not_the_pull() -> None:
    came, made, *_ = trained(PLAN.with_(clip=1e-3), Strategy(client=Prox(mu=2.0)))
    start = w = matrix(came)
    for _ in range(STEPS):
        g = gradient(w)
        w = w - LR * (g * min(1, 1e-3 / np.linalg.norm(g)) + 2.0 * (w - start))

    assert near(matrix(made), w)
