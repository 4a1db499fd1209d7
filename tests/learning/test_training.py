from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from grid.learning.objectives import LOSSES, METRICS
from grid.learning.plan import Plan
from grid.learning.recipe import BATCH, OPTIMIZERS, Graph, Input, Limits, Node, Recipe, Schedule, Transform
from grid.learning.state import State, tensor_views
from grid.learning.tensors import Layout, TensorSpec
from grid.learning.training import Arrays, Trainer
from grid.wire.problems import PlanRefused, TensorsRefused

RNG = np.random.default_rng(0)
TRUTH = RNG.standard_normal((5, 3))
FEATURES = RNG.standard_normal((200, 5))
DATA: Arrays = {"features": FEATURES, "target": (FEATURES @ TRUTH).argmax(1)}
PLAN = Plan.mlp([5, 16, 3], metrics=("accuracy",), lr=0.2, epochs=5, seed=3)


def fresh(plan: Plan) -> tuple[bytearray, State]:
    buffer = bytearray(plan.initial)
    return buffer, tensor_views(plan.layout, buffer)


def test_fitting_writes_a_better_model_into_the_same_buffer() -> None:
    trainer, (buffer, state) = Trainer(PLAN, DATA), fresh(PLAN)
    before = trainer.evaluate(state)

    fitted = trainer.fit(state)
    after = trainer.evaluate(state)

    assert bytes(buffer) != PLAN.initial
    assert (fitted.examples, fitted.steps, after.examples) == (160, 25, 40)
    assert after.loss is not None
    assert before.loss is not None
    assert after.loss < before.loss / 2
    assert after.metrics["accuracy"] > 0.85


def test_the_same_round_gives_the_same_bytes_and_another_round_others() -> None:
    results = []
    for round_number in (0, 0, 1):
        buffer, state = fresh(PLAN)
        Trainer(PLAN, DATA).fit(state, round_number=round_number)
        results.append(bytes(buffer))
    assert results[0] == results[1] != results[2]


def test_the_callers_random_numbers_stay_as_they_were() -> None:
    before = torch.default_generator.get_state()
    Trainer(PLAN, DATA).fit(fresh(PLAN)[1], steps=1)
    assert torch.default_generator.get_state().equal(before)


def test_sgd_is_the_textbooks() -> None:
    plan = Plan.linear(5, 3, lr=0.5, batch=160)
    _, state = fresh(plan)
    trainer = Trainer(plan, DATA)
    layer = torch.nn.Linear(5, 3)
    layer.load_state_dict({name.removeprefix("0."): tensor.clone() for name, tensor in state.items()})
    rows = trainer._rows["train"]
    features = torch.tensor(FEATURES, dtype=torch.float32)[rows]
    loss = torch.nn.functional.cross_entropy(layer(features), torch.tensor(DATA["target"])[rows])
    loss.backward()  # type: ignore[no-untyped-call]

    fitted = trainer.fit(state)

    assert fitted.loss == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(state["0.weight"], (layer.weight - 0.5 * layer.weight.grad).detach())  # type: ignore[operator]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_learns(optimizer: str) -> None:
    plan = PLAN.with_(optimizer=optimizer, lr=0.01 if optimizer != "sgd" else 0.2, clip=5.0)
    trainer, (_, state) = Trainer(plan, DATA), fresh(plan)
    before = trainer.evaluate(state, "train").loss
    trainer.fit(state)
    assert trainer.evaluate(state, "train").loss < before  # type: ignore[operator]


@pytest.mark.parametrize("loss", ["mse", "l1", "huber", "bce_with_logits"])
def test_a_column_of_targets_goes_with_a_single_output(loss: str) -> None:
    data: Arrays = {"features": FEATURES, "target": (FEATURES[:, 0] > 0).astype(np.int64)}
    metrics = ("accuracy",) if loss == "bce_with_logits" else ("mse", "mae")
    plan = Plan.linear(5, 1, loss=loss, metrics=metrics, epochs=20, lr=0.1)  # type: ignore[arg-type]
    trainer, (_, state) = Trainer(plan, data), fresh(plan)
    before = trainer.evaluate(state).loss
    trainer.fit(state)
    score = trainer.evaluate(state)
    assert score.loss < before  # type: ignore[operator]
    assert set(score.metrics) == set(metrics)


def test_names_are_the_recipes() -> None:
    assert LOSSES.keys() == {"cross_entropy", "mse", "bce_with_logits", "l1", "huber"}
    assert METRICS.keys() == {"accuracy", "top5", "mse", "mae"}


def test_the_best_five_answers_count_as_right() -> None:
    output = torch.arange(8.0).repeat(4, 1)  # the answers in order of their scores: 7, 6, 5 ...
    assert METRICS["top5"](output, torch.tensor([7, 3, 2, 0])).item() == 0.5
    assert METRICS["accuracy"](output, torch.tensor([7, 3, 2, 0])).item() == 0.25


def test_a_schedule_is_steps_a_cosine_and_a_warm_up() -> None:
    steps, cosine = Schedule(gamma=0.1, every=10), Schedule(cosine=10, floor=0.2)
    assert [steps.factor(n) for n in (0, 9, 10, 25)] == pytest.approx([1, 1, 0.1, 0.01])
    assert [cosine.factor(n) for n in (0, 5, 10, 99)] == pytest.approx([1, 0.6, 0.2, 0.2])
    assert [Schedule(warmup=4).factor(n) for n in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1, 1])


def test_a_schedule_lowers_the_rate_from_round_to_round() -> None:
    moved = []
    for round_number in (0, 2):
        plan = Plan.linear(5, 3, lr=0.5, batch=160, schedule=Schedule(gamma=0.1, every=2))
        buffer, state = fresh(plan)
        Trainer(plan, DATA).fit(state, round_number=round_number)
        moved.append(np.abs(np.frombuffer(buffer, np.float32) - np.frombuffer(plan.initial, np.float32)).max())
    assert moved[1] == pytest.approx(moved[0] / 10, rel=1e-3)


def test_a_transform_changes_features_once_and_leaves_the_dataset_alone() -> None:
    data: Arrays = {"features": FEATURES.astype(np.float32), "target": DATA["target"]}
    data["features"].setflags(write=False)
    copy = data["features"].copy()
    scaled = Trainer(PLAN.with_(transform=Transform(shift=(1.0,) * 5, scale=2.0)), data)
    plain = Trainer(PLAN, {"features": (copy - 1) / 2, "target": data["target"]})

    assert scaled.evaluate(fresh(PLAN)[1]) == plain.evaluate(fresh(PLAN)[1])
    assert np.array_equal(data["features"], copy)


def test_features_of_the_right_type_are_not_copied() -> None:
    features = FEATURES.astype(np.float32)
    trainer = Trainer(PLAN, {"features": features, "target": DATA["target"]})
    assert trainer._features[0].data_ptr() == features.ctypes.data


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ({"features": FEATURES}, "no tensor 'target'"),
        ({"features": FEATURES[:, :4], "target": DATA["target"]}, r"\[200, 4\]"),
        ({"features": FEATURES[:100], "target": DATA["target"]}, "numbers of rows"),
        ({"features": FEATURES, "target": RNG.random(200)}, "not whole numbers"),
        ({"features": FEATURES, "target": DATA["target"] + 1}, "3 classes"),
        ({"features": FEATURES[:30], "target": DATA["target"][:30]}, "gradient inversion"),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused(data: Arrays, word: str) -> None:
    with pytest.raises(PlanRefused, match=word):
        Trainer(PLAN, data)


def test_a_failure_on_the_data_does_not_quote_it() -> None:
    words = RNG.integers(0, 9, (64, 1))
    words[7] = 4711
    table, x = Input("param", "table", "F32", (9, 1)), Input("input", "x", "I64", (BATCH, 1))
    look_up = Node("aten.embedding.default", [{"ref": 0}, {"ref": 1}], {})
    flat = Node("aten.flatten.using_ints", [{"ref": 2}, 1], {})
    plan = Plan(Recipe(model=Graph((table, x), (look_up, flat), (3,)), loss="mse"), {"table": bytes(36)})

    with pytest.raises(PlanRefused) as refusal:
        Trainer(plan, {"features": words, "target": words}, held_out=0.0).fit(fresh(plan)[1])

    assert refusal.value.detail == "the plan failed on this dataset (IndexError)"


def test_a_node_grants_no_more_than_its_limits() -> None:
    with pytest.raises(PlanRefused, match="gradient inversion"):
        Trainer(PLAN.with_(batch=2), DATA)
    with pytest.raises(PlanRefused, match="memory"):
        Trainer(PLAN, DATA, limits=Limits(memory=100))
    with pytest.raises(PlanRefused, match="grants 3"):
        Trainer(PLAN, DATA, limits=Limits(maximum_steps=3)).fit(fresh(PLAN)[1])


def test_a_last_batch_below_the_minimum_is_left_out() -> None:
    plan = PLAN.with_(batch=155, epochs=1)  # 160 rows: 155 and 5
    assert Trainer(plan, DATA).fit(fresh(plan)[1]).steps == 1


def test_nothing_held_out_is_no_score() -> None:
    score = Trainer(PLAN, DATA, held_out=0.0).evaluate(fresh(PLAN)[1])
    assert (score.examples, score.loss, score.metrics) == (0, None, {})


def test_views_share_the_buffer_and_check_its_length() -> None:
    layout = Layout([TensorSpec("a", "F32", (2,)), TensorSpec("b", "BF16", ()), TensorSpec("e", "U8", (0,))])
    buffer = bytearray(layout.size)
    tensor_views(layout, buffer)["a"][1] = 1.0
    assert np.frombuffer(buffer, np.float32, 2).tolist() == [0, 1]
    with pytest.raises(TensorsRefused, match="bytes"):
        tensor_views(layout, bytes(layout.size + 1))


@pytest.mark.slow
def test_warming_up_loads_neither_the_compiler_nor_sympy() -> None:
    code = "import sys; from grid.learning.training import warm_up; warm_up(); "
    code += "assert not {'torch._dynamo', 'torch._inductor', 'sympy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
