"""Training of a linear model with numpy alone, for nodes where torch is not installed.

A plan whose model is one linear layer is done here as `training` does it: the same rows in the same order, the same
rules in float32, so that both give the same model but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from grid.learning.arrays import Array, views
from grid.learning.batches import batches, check_amounts, seed_of, steps_in
from grid.learning.numpy_rules import CLASSES, LOSSES, METRICS, NEEDS_TORCH, RULES, Floats, clipped, stepper
from grid.learning.outcome import Estimate, Fitted, Score
from grid.learning.plan import Plan
from grid.learning.progress import Told, unheard
from grid.learning.recipe import BATCH, Dp, Graph, Limits, Recipe
from grid.learning.split import Indices, split
from grid.learning.strategy import ClientRule, Plain, Prox, Strategy
from grid.privacy.noise import SECRET, Draws
from grid.wire.problems import PlanRefused

State = dict[str, Array]

DEFAULT_LIMITS = Limits()
PLAIN = Plain()
NOTHING: State = {}


class Trainer:
    """One linear plan on one dataset: see `training.Trainer`, which this one stands in for.

    Raises:
        PlanRefused: the plan is not linear, does not fit the dataset, or asks for more than the limits grant.
    """

    def __init__(
        self,
        plan: Plan,
        tensors: Mapping[str, Array],
        *,
        inputs: tuple[str, ...] = ("features",),
        target: str = "target",
        held_out: float = 0.2,
        split_seed: int = 0,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        recipe = plan.recipe
        self._weight, self._bias = linear_names(recipe)
        missing = [name for name in (*inputs, target) if name not in tensors]
        if missing:
            raise PlanRefused(f"the dataset has no tensor {missing[0]!r}; it has {', '.join(tensors)}")
        if len(inputs) != 1:
            raise PlanRefused(f"the plan takes 1 inputs, the task names {len(inputs)}")
        self._limits, self._plan = limits, plan
        outputs, wide = (int(size) for size in plan.layout.by_name[self._weight].spec.shape)
        train, held = split(len(tensors[target]), held_out, split_seed)
        self._rows = {"train": train, "held-out": held}
        check_amounts(recipe, len(train), limits)
        self._batch = min(recipe.batch, len(train))
        self._features = _features(recipe, tensors[inputs[0]], wide)
        self._target = _targets(recipe, tensors[target], outputs)
        if len(self._features) != len(self._target):
            raise PlanRefused("inputs and target have different numbers of rows")
        self.estimate = Estimate(4 * plan.layout.size + 8 * self._batch * (wide + outputs), ((self._batch, outputs),))
        if self.estimate.memory > limits.memory:
            raise PlanRefused(f"a step would take more than {limits.memory} bytes of memory")

    def fit(
        self,
        state: State,
        *,
        round_number: int = 0,
        epochs: int | None = None,
        steps: int | None = None,
        rule: ClientRule = PLAIN,
        server: State = NOTHING,
        own: State = NOTHING,
        progress: Told = unheard,
        secret: bytes = b"",
    ) -> Fitted:
        """Train `state`, arrays by name, in place: see `training.Trainer.fit`."""
        recipe, rows = self._plan.recipe, self._rows["train"]
        total = steps_in(recipe, len(rows), self._limits, epochs, steps)
        weights = self._weights(state)
        pull, step = _pull(rule, weights), stepper(recipe.optimizer, weights)
        lr, loss_sum = recipe.optimizer.lr * recipe.schedule.factor(round_number), 0.0
        seed = seed_of(recipe.seed, round_number) + 1
        if recipe.dp and len(secret) != SECRET:
            raise ValueError(f"a private training needs {SECRET} secret bytes")
        found = self._private(recipe.dp, weights, secret) if recipe.dp else self._plain(weights, seed)
        with _discreet():
            for done, (loss, gradients) in zip(range(total), found, strict=False):
                step(pull(clipped(gradients, recipe.clip)), lr)
                loss_sum += loss
                progress(done + 1, total, loss)
        return Fitted(len(rows), total, loss_sum / max(total, 1), lr)

    def evaluate(self, state: State, part: str = "held-out") -> Score:
        """Loss and metrics of a state on the rows of a part: `train` or `held-out`."""
        rows = self._rows[part]
        if not len(rows):
            return Score(0, None, {})
        weights, recipe = self._weights(state), self._plan.recipe
        sums = dict.fromkeys(("loss", *recipe.metrics), 0.0)
        with _discreet():
            for start in range(0, len(rows), max(self._batch, 256)):
                batch = rows[start : start + max(self._batch, 256)]
                output, target = _output(weights, self._features[batch]), self._target[batch]
                sums["loss"] += len(batch) * LOSSES[str(recipe.loss)](output, target)[0]
                for name in recipe.metrics:
                    sums[name] += len(batch) * METRICS[name](output, target)
        means = {name: value / len(rows) for name, value in sums.items()}
        return Score(len(rows), means.pop("loss"), means)

    def _weights(self, state: State) -> list[Floats]:
        names = (self._weight,) if self._bias is None else (self._weight, self._bias)
        return [state[name] for name in names]

    def _plain(self, weights: list[Floats], seed: int) -> Iterator[tuple[float, list[Floats]]]:
        """Loss and gradients of one step after another, of the weights as they are then; without end."""
        for batch in batches(self._rows["train"], self._batch, self._limits, seed):
            loss, slope = self._slope(weights, batch)
            yield loss, [slope.T @ self._features[batch], slope.sum(0)][: len(weights)]

    def _private(self, dp: Dp, weights: list[Floats], secret: bytes) -> Iterator[tuple[float, list[Floats]]]:
        """The same, so that each record is hidden: see `private_steps.Private.steps`.

        An example's gradient is its slope times its features, and so is its norm.
        """
        draws, rows = Draws(secret), self._rows["train"]
        while True:
            chosen = rows[draws.chosen(len(rows), dp.rate)]
            sums, losses = [np.zeros_like(weight) for weight in weights], 0.0
            for begin in range(0, len(chosen), self._batch):
                batch = chosen[begin : begin + self._batch]
                loss, slope = self._slope(weights, batch)
                clip, features = _clipping(slope * np.float32(len(batch)), self._features[batch], len(weights), dp.clip)
                losses += loss * len(batch)
                for sum_, part in zip(sums, [clip.T @ features, clip.sum(0)], strict=False):
                    sum_ += part
            noise, expected = draws.normals(sum(sum_.size for sum_ in sums)), np.float32(dp.rate * len(rows))
            for sum_, part in zip(sums, np.split(noise, [sums[0].size]), strict=False):
                sum_ += np.float32(dp.noise * dp.clip) * part.reshape(sum_.shape)
                sum_ /= expected
            yield losses / max(len(chosen), 1), sums

    def _slope(self, weights: list[Floats], batch: Indices) -> tuple[float, Floats]:
        return LOSSES[str(self._plan.recipe.loss)](_output(weights, self._features[batch]), self._target[batch])


def _clipping(slope: Floats, features: Floats, weights: int, bound: float) -> tuple[Floats, Floats]:
    """Slopes (b, p) scaled so that no example's gradient is longer than `bound`, and features (b, d) to go with them.

    An example whose gradient is not finite counts as nothing. Norms are float64, as in `bookkeeping.factors_of`.
    """
    squares = np.square(features, dtype=np.float64).sum(1) + (weights > 1)
    norms = np.sqrt(squares * np.square(slope, dtype=np.float64).sum(1))
    kept = np.isfinite(norms)
    factors = np.minimum(1.0, bound * (1 - 1e-6) / np.maximum(norms[kept], 1e-300))
    return slope[kept] * factors[:, None].astype(np.float32), features[kept]


def linear_names(recipe: Recipe) -> tuple[str, str | None]:
    """The names of weight and bias of a plan that can be trained here.

    Raises:
        PlanRefused: it needs torch.
    """
    graph = recipe.model
    kinds = [entry.kind for entry in graph.inputs]
    alone = len(graph.nodes) == 1 and graph.nodes[0].op == "aten.linear.default" and not graph.nodes[0].kwargs
    named = not isinstance(recipe.loss, Graph) and recipe.loss in LOSSES and isinstance(recipe.optimizer, RULES)
    if not alone or not named or graph.outputs != (len(graph.inputs),) or set(kinds) != {"param", "input"}:
        raise PlanRefused(NEEDS_TORCH)
    match [argument["ref"] for argument in graph.nodes[0].args if isinstance(argument, dict)]:
        case [features, weight, *bias] if kinds[features] == "input" and kinds.count("param") == 1 + len(bias):
            entries = [graph.inputs[number] for number in (features, weight, *bias)]
            if all(entry.dtype == "F32" for entry in entries) and _flat(entries[0].shape):
                return entries[1].name, entries[2].name if bias else None
    raise PlanRefused(NEEDS_TORCH)


def _flat(shape: tuple[int | str, ...]) -> bool:
    return len(shape) == 2 and shape[0] == BATCH


def _features(recipe: Recipe, array: Array, wide: int) -> Floats:
    if array.shape[1:] != (wide,):
        (entry,) = recipe.model.named("input")
        raise PlanRefused(f"the plan takes {entry.name} {list(entry.shape)}, the dataset has {list(array.shape)}")
    found = np.ascontiguousarray(array, np.float32)
    if recipe.transform is None:
        return found
    shift, scale = (np.asarray(part, np.float32) for part in (recipe.transform.shift, recipe.transform.scale))
    return (found - shift) / scale


def _targets(recipe: Recipe, array: Array, outputs: int) -> Array:
    if recipe.loss != CLASSES:
        return np.asarray(array, np.float32).reshape(len(array), outputs)
    if array.dtype.kind not in "iub" and not np.equal(array, np.floor(array)).all():
        raise PlanRefused("cross_entropy takes class numbers as targets, and these are not whole numbers")
    classes = np.asarray(array, np.int64).reshape(len(array))
    if len(classes) and not (classes.min() >= 0 and classes.max() < outputs):
        raise PlanRefused(f"the plan tells {outputs} classes apart, numbered from 0; the dataset has others")
    return classes


def predict(plan: Plan, tensors: Mapping[str, Array], threads: int = 1) -> Floats:
    """What a linear plan answers about rows: see `predicting.predict`, which this one stands in for."""
    weight, bias = linear_names(plan.recipe)
    state = views(plan.layout, plan.initial)
    (entry,) = plan.recipe.model.named("input")
    features = _features(plan.recipe, tensors[entry.name], int(plan.layout.by_name[weight].spec.shape[1]))
    with _discreet():
        return _output([state[weight]] if bias is None else [state[weight], state[bias]], features)


def _output(weights: list[Floats], features: Floats) -> Floats:
    output: Floats = features @ weights[0].T
    return output + weights[1] if len(weights) > 1 else output


# --- strategies ----------------------------------------------------------------------------------


def _pull(rule: ClientRule, weights: list[Floats]) -> Callable[[list[Floats]], list[Floats]]:
    """The rule's correction of gradients: see `client_rules.correction`."""
    match rule:
        case Plain():
            return lambda gradients: gradients
        case Prox(mu=mu):
            anchors = [weight.copy() for weight in weights]
            return lambda gradients: [
                gradient + np.float32(mu) * (weight - anchor)
                for gradient, weight, anchor in zip(gradients, weights, anchors, strict=True)
            ]
    raise PlanRefused("this node has no torch; FedAvg and FedProx are the strategies that it can take part in")


def finish(
    strategy: Strategy, recipe: Recipe, fitted: Fitted, before: State, after: State, own: State
) -> dict[str, float]:
    """Make an update of a trained model, in place: see `client_rules.finish`."""
    if strategy.sends_delta:
        for entry in recipe.model.named("param"):
            after[entry.name] -= before[entry.name]
    return {}


def warm_up() -> None:
    """Train one step and evaluate, so that a process which forks has already loaded all that training needs."""
    plan = Plan.linear(4, 2, metrics=("accuracy",), minimum_examples=1)
    rng = np.random.default_rng(0)
    trainer = Trainer(plan, {"features": rng.random((64, 4), np.float32), "target": rng.integers(0, 2, 64)})
    state = views(plan.layout, bytearray(plan.initial))
    trainer.fit(state, steps=1)
    trainer.evaluate(state)


@contextmanager
def _discreet() -> Iterator[None]:
    """An error's message may quote a record, so only its type leaves; overflow shows in the loss."""
    try:
        with np.errstate(all="ignore"):
            yield
    except (IndexError, TypeError, ValueError, ArithmeticError) as error:
        raise PlanRefused(f"the plan failed on this dataset ({type(error).__name__})") from None
