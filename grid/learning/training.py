"""What a worker does with a plan: load a dataset once, then fit and evaluate, round after round."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from grid.learning.batches import batches, check_amounts, seed_of, steps_in
from grid.learning.client_rules import Correction, correction
from grid.learning.devices import CPU, generators, room_for, words
from grid.learning.interpreter import TORCH_TYPES
from grid.learning.model import Model
from grid.learning.objectives import CLASSES, METRICS
from grid.learning.optimizers import Step, clipped, stepper
from grid.learning.outcome import Fitted, Score
from grid.learning.plan import Plan
from grid.learning.private_steps import Private, planned
from grid.learning.progress import Told, unheard
from grid.learning.recipe import BATCH, Graph, Input, Limits, Recipe
from grid.learning.split import Indices, split
from grid.learning.state import State, tensor_views
from grid.learning.strategy import ClientRule, Plain
from grid.learning.tensors import Layout
from grid.learning.validate import held_by
from grid.privacy.noise import SECRET
from grid.wire.problems import GpuFailed, PlanRefused

DEFAULT_LIMITS = Limits()
PLAIN = Plain()
NOTHING: State = {}

Arrays = Mapping[str, NDArray[Any]]


class Trainer:
    """One plan on one dataset.

    `tensors` are the dataset's arrays, each (n, ...); `inputs` and `target` name those that the plan takes.
    A share `held_out` of the rows is kept for evaluation; the same rows whenever `split_seed` is the same.
    Arrays of the right dtype are used where they are, without a copy. With another `device` than the processor it
    trains and evaluates there; the plan is rehearsed on the processor all the same, and the dataset goes there whole
    where it is small beside the device's free memory, else batch by batch.

    Raises:
        PlanRefused: dataset and plan do not fit, or the plan asks for more than the limits grant.
        GpuFailed: the device could not do it.
    """

    def __init__(
        self,
        plan: Plan,
        tensors: Arrays,
        *,
        inputs: tuple[str, ...] = ("features",),
        target: str = "target",
        held_out: float = 0.2,
        split_seed: int = 0,
        limits: Limits = DEFAULT_LIMITS,
        device: str = "cpu",
    ) -> None:
        if torch.get_num_threads() != limits.threads:
            torch.set_num_threads(limits.threads)
        recipe = plan.recipe
        missing = [name for name in (*inputs, target) if name not in tensors]
        if missing:
            raise PlanRefused(f"the dataset has no tensor {missing[0]!r}; it has {', '.join(tensors)}")
        wanted = recipe.model.named("input")
        if len(wanted) != len(inputs):
            raise PlanRefused(f"the plan takes {len(wanted)} inputs, the task names {len(inputs)}")
        self._limits, self._plan, self._device = limits, plan, torch.device(device)
        train, held = split(len(tensors[target]), held_out, split_seed)
        self._rows = {"train": train, "held-out": held}
        check_amounts(recipe, len(train), limits)
        self._batch = min(recipe.batch, len(train))
        self._features = [load_input(entry, tensors[name]) for entry, name in zip(wanted, inputs, strict=True)]
        self._target = _load_target(recipe, tensors[target])
        if any(len(feature) != len(self._target) for feature in self._features):
            raise PlanRefused("inputs and target have different numbers of rows")
        target_name = next(name for name, dtype in TORCH_TYPES.items() if dtype == self._target.dtype)
        whole = (target_name, self._target.shape[1:])
        self._batch, self.estimate = planned(recipe, self._batch, len(train), whole, limits.memory)
        _check_classes(recipe, self._target, self.estimate.outputs[0])
        self._private = Private(recipe, self._batch, limits.memory - self.estimate.memory) if recipe.dp else None
        self._features[0] = transformed(recipe, self._features[0])
        with self._discreet():
            self._constants = self._moved(constants_of(plan))
            if room_for([*self._features, self._target], self._device):
                self._features = [feature.to(self._device) for feature in self._features]
                self._target = self._target.to(self._device)

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
        """Train `state` (parameters and running statistics, by name) in place; see `state.tensor_views`.

        The same plan, state, data and round give the same result on one machine. `epochs` and `steps` take the
        place of the plan's. `examples` of the result is the number of rows that this node trains on.
        A plan with `dp` needs a `secret`, 16 random bytes that are used once; they decide what it draws and adds.
        `rule` is the strategy's for clients, `server` and `own` the control variates for SCAFFOLD.
        `progress` hears of every step.

        Raises:
            PlanRefused: more steps than the limits grant.
            GpuFailed: the device could not do it; the state is as it was.
        """
        recipe, rows = self._plan.recipe, self._rows["train"]
        total = steps_in(recipe, len(rows), self._limits, epochs, steps)
        seed, loss_sum = seed_of(recipe.seed, round_number), 0.0
        if recipe.dp and len(secret) != SECRET:
            raise ValueError(f"a private training needs {SECRET} secret bytes")
        with self._discreet(), _Seeded(seed, self._device):
            leaves = self._moved(state)
            weights = {entry.name: leaves[entry.name].requires_grad_() for entry in recipe.model.named("param")}
            descend = _Descent(recipe, weights, round_number, lambda used: correction(rule, used, server, own))
            found = self._gradients(leaves, weights, seed + 1, secret)
            for done, (loss, gradients) in zip(range(total), found, strict=False):
                descend(gradients)
                loss_sum += loss
                progress(done + 1, total, loss)
            self._give_back(leaves, state)
        return Fitted(len(rows), total, loss_sum / max(total, 1), descend.lr)

    def _gradients(
        self, leaves: State, weights: State, seed: int, secret: bytes
    ) -> Iterator[tuple[float, Sequence[torch.Tensor | None]]]:
        """The loss and the gradients of one step after another, of the parameters as they are then; without end."""
        recipe, rows, device = self._plan.recipe, self._rows["train"], str(self._device)
        if recipe.dp and self._private:
            clipped = self._private.clipped(weights, self._constants, device)
            yield from self._private.steps(recipe.dp, rows, weights, self._take, clipped, secret)
            return
        model = Model(recipe, leaves, self._constants, training=True, device=device)
        for chosen in batches(rows, self._batch, self._limits, seed):
            features, target = self._take(chosen)
            loss = model.loss(model(features), target)
            yield loss.item(), torch.autograd.grad(loss, list(weights.values()), allow_unused=True)

    def evaluate(self, state: State, part: str = "held-out") -> Score:
        """Loss and metrics of a state on the rows of a part: `train` or `held-out`."""
        rows = self._rows[part]
        if not len(rows):
            return Score(0, None, {})
        sums = dict.fromkeys(("loss", *self._plan.recipe.metrics), 0.0)
        with self._discreet(), torch.no_grad():
            held = self._moved(state)
            model = Model(self._plan.recipe, held, self._constants, training=False, device=str(self._device))
            for batch in torch.split(torch.from_numpy(rows), max(self._batch, 256)):
                features, target = self._take(batch.numpy())
                outputs = model(features)
                sums["loss"] += len(batch) * model.loss(outputs, target).item()
                for name in self._plan.recipe.metrics:
                    sums[name] += len(batch) * METRICS[name](outputs[0], target).item()
        means = {name: value / len(rows) for name, value in sums.items()}
        return Score(len(rows), means.pop("loss"), means)

    def _take(self, rows: Indices) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Features and targets of a batch, on the device; drawn where the dataset lies."""
        there = torch.from_numpy(rows).to(self._target.device)
        *features, target = [whole.index_select(0, there).to(self._device) for whole in (*self._features, self._target)]
        return features, target

    def _moved(self, state: State) -> State:
        """The same tensors on the processor, copies on another device."""
        return {name: tensor.detach().to(self._device) for name, tensor in state.items()}

    def _give_back(self, leaves: State, state: State) -> None:
        if self._device != CPU:
            for name, tensor in state.items():
                tensor.copy_(leaves[name].detach())

    @contextmanager
    def _discreet(self) -> Iterator[None]:
        """A kernel's message may quote a record ("index 93 is out of bounds"), so only its type leaves.

        Of a GPU a failure is never held against the plan: the processor may tell.
        """
        try:
            yield
        except (RuntimeError, IndexError, TypeError, ValueError, ArithmeticError) as error:
            if self._device != CPU:
                raise GpuFailed(words(error)) from None
            raise PlanRefused(f"the plan failed on this dataset ({type(error).__name__})") from None


class _Descent:
    """One optimizer step after another, on those parameters that the loss depends on."""

    def __init__(
        self, recipe: Recipe, weights: State, round_number: int, correction_of: Callable[[State], Correction]
    ) -> None:
        self._recipe, self._weights, self._correction_of = recipe, weights, correction_of
        self.lr = recipe.optimizer.lr * recipe.schedule.factor(round_number)
        self._step: Step | None = None

    def __call__(self, found: Sequence[torch.Tensor | None]) -> None:
        gradients = [gradient for gradient in found if gradient is not None]
        with torch.no_grad():
            if self._step is None:
                named = zip(self._weights.items(), found, strict=True)
                self._step = self._begin({name: weight for (name, weight), gradient in named if gradient is not None})
            if self._recipe.clip:
                gradients = clipped(gradients, self._recipe.clip)
            self._step(gradients, self.lr)

    def _begin(self, used: State) -> Step:
        step, correct = stepper(self._recipe.optimizer, list(used.values())), self._correction_of(used)
        return lambda gradients, lr: step(correct(gradients), lr)


class _Seeded:
    """torch's own generators (dropout draws from them) seeded inside, as before outside."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed, self._generators = seed, generators(device)

    def __enter__(self) -> None:
        self._before = [generator.get_state() for generator in self._generators]
        for generator in self._generators:
            generator.manual_seed(self._seed)

    def __exit__(self, *_: object) -> None:
        for generator, before in zip(self._generators, self._before, strict=True):
            generator.set_state(before)


def _tensor(array: NDArray[Any], dtype: torch.dtype) -> torch.Tensor:
    with warnings.catch_warnings():  # a mapped dataset is read-only, and no operation of a plan writes to it
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(np.ascontiguousarray(array)).to(dtype)


def load_input(entry: Input, array: NDArray[Any]) -> torch.Tensor:
    """An array (n, ...) as an input of a plan. Raises PlanRefused where it has another shape."""
    shape = entry.shape[1:] if entry.shape[:1] == (BATCH,) else None
    if shape is None or tuple(array.shape[1:]) != shape:
        raise PlanRefused(f"the plan takes {entry.name} {list(entry.shape)}, the dataset has {list(array.shape)}")
    return _tensor(array, TORCH_TYPES[entry.dtype])


def _load_target(recipe: Recipe, array: NDArray[Any]) -> torch.Tensor:
    if isinstance(recipe.loss, Graph):
        return load_input(recipe.loss.named("input")[-1], array)
    if recipe.loss != CLASSES:
        return _tensor(array, torch.float32)
    if array.dtype.kind not in "iub" and not np.equal(array, np.floor(array)).all():
        raise PlanRefused("cross_entropy takes class numbers as targets, and these are not whole numbers")
    return _tensor(array, torch.int64)


def _check_classes(recipe: Recipe, target: torch.Tensor, output: tuple[int, ...]) -> None:
    if recipe.loss == CLASSES and len(target) and not (target.min() >= 0 and target.max() < output[1]):
        raise PlanRefused(f"the plan tells {output[1]} classes apart, numbered from 0; the dataset has others")


def transformed(recipe: Recipe, feature: torch.Tensor) -> torch.Tensor:
    """The first input as the plan's transform makes it."""
    if recipe.transform is None:
        return feature
    shift = torch.tensor(recipe.transform.shift, dtype=feature.dtype)
    scale = torch.tensor(recipe.transform.scale, dtype=feature.dtype)
    return (feature - shift).div_(scale)


def constants_of(plan: Plan) -> State:
    """The bundle's tensors that are not trained."""
    return {
        spec.name: tensor_views(Layout((spec,)), plan.values[spec.name])[spec.name]
        for spec in held_by(plan.recipe).specs
        if spec.name not in plan.layout.by_name
    }


def warm_up(device: str = "cpu", *, gradients: bool = True) -> None:
    """Train one step and evaluate, so that a process which forks has already loaded all that training needs.

    Without `gradients` it evaluates only.
    """
    plan = Plan.mlp([4, 4, 2], metrics=("accuracy",), minimum_examples=1)
    rng = np.random.default_rng(0)
    arrays: Arrays = {"features": rng.random((64, 4), np.float32), "target": rng.integers(0, 2, 64)}
    state = tensor_views(plan.layout, bytearray(plan.initial))
    trainer = Trainer(plan, arrays, device=device)
    if gradients:
        trainer.fit(state, steps=1)
    trainer.evaluate(state)
