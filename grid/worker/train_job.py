"""The job that trains: one plan on one dataset, round after round. Runs in a seat only, with torch or with numpy.

A model is its data section here: in the inbox the one to start from, with what the strategy sends beside it; in the
outbox the update that came out; in the state what this node keeps of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from grid.faults import point
from grid.learning.arrays import views
from grid.learning.batches import steps_of_epoch
from grid.learning.broadcasts import Rounding
from grid.learning.codec import Codec, residual_of
from grid.learning.layouts import own_layout, residual_layout, statistics_of, update_layout, upload_layout
from grid.learning.masked import Vectors
from grid.learning.masking import mask as add_masks
from grid.learning.plan import Plan
from grid.learning.progress import Reporter
from grid.learning.recipe import Limits as Grant
from grid.learning.said import Own
from grid.learning.split import split
from grid.learning.strategy import Exact, QFair, Strategy, check_recipe, read_strategy
from grid.learning.tensors import header_bytes, read_header
from grid.wire.problems import WorkerFailed
from grid.worker.seat import Desk, Job, Verb


class Kit(NamedTuple):
    """What training is done with: `learning.training` and its parts, or `learning.numpy_training` and its own."""

    trainer: Callable[..., Any]
    views: Callable[..., dict[str, Any]]
    finish: Callable[..., dict[str, float]]
    predict: Callable[..., Any]


def training_with(kit: Kit) -> Job:
    """The job, done with that kit."""
    return partial(train, kit)


def train(
    kit: Kit,
    desk: Desk,
    inputs: list[str],
    target: str,
    holdout: float,
    seed: int,
    grant: dict[str, Any],
    strategy: Mapping[str, Any] | str = "fedavg",
) -> Mapping[str, Verb]:
    """Read and check plan and data; then `prepare`, and for each model `receive`, `evaluate` and `fit`.

    Raises:
        PlanRefused: the plan breaks a rule, does not fit the data, or asks for more than the grant and limits.
        StrategyRefused: it asks of the clients what this plan's optimizer cannot do.
        GpuFailed: the seat's GPU could not do it.
    """
    plan, chosen = Plan.from_bundle(desk.files["bundle"]), read_strategy(strategy)
    check_recipe(chosen, plan.recipe)
    trainer, amounts, limits = trainer_of(kit, desk, plan, inputs, target, holdout, seed, grant)
    epoch = steps_of_epoch(plan.recipe, amounts[0], limits)
    work = _Training(kit, desk, plan, chosen, trainer, amounts, epoch)
    verbs: dict[str, Verb] = {"prepare": work.prepare, "receive": work.receive, "fit": work.fit}
    return verbs | {"evaluate": work.evaluate, "mask": work.mask}


def trainer_of(
    kit: Kit,
    desk: Desk,
    plan: Plan,
    inputs: list[str],
    target: str,
    holdout: float,
    seed: int,
    grant: dict[str, Any],
) -> tuple[Any, list[int], Grant]:
    """A trainer of the plan on the dataset at the desk, how many examples it trains on and holds out, and its limits.

    Raises:
        PlanRefused: the plan does not fit the data, or asks for more than the grant and limits.
    """
    data, _, offset = read_header(desk.files["tensors"], total=len(desk.files["tensors"]))
    arrays = views(data, desk.files["tensors"][offset:])
    limits = msgspec.structs.replace(
        msgspec.convert(grant, Grant), memory=desk.limits.memory, threads=desk.limits.threads
    )
    on = {} if desk.device == "cpu" else {"device": desk.device}  # numpy's knows no other
    trainer = kit.trainer(
        plan, arrays, inputs=tuple(inputs), target=target, held_out=holdout, split_seed=seed, limits=limits, **on
    )
    return trainer, [len(rows) for rows in split(len(arrays[target]), holdout, seed)], limits


class _Training:
    def __init__(
        self, kit: Kit, desk: Desk, plan: Plan, strategy: Strategy, trainer: Any, amounts: list[int], epoch: int
    ) -> None:
        self._finish, self._progress, self._epoch = kit.finish, desk.progress, epoch
        self._plan, self._strategy, self._trainer, self._amounts = plan, strategy, trainer, amounts
        statistics = statistics_of(plan.recipe)
        layout = update_layout(plan.layout, strategy, statistics)
        self._came, self._rounding = desk.inbox, Rounding(strategy, plan.layout, statistics)
        self._inbox, self._outbox = desk.inbox[: layout.size], desk.outbox[: layout.size]
        self._states = {"inbox": kit.views(layout, self._inbox), "outbox": kit.views(layout, self._outbox)}
        own = own_layout(plan.layout, strategy, statistics)
        self._own = kit.views(own, desk.state[: own.size])
        plain = strategy.upload == Exact() or strategy.masked
        self._codec = None if plain else Codec(strategy, plan.layout, statistics)
        self._coded = bytearray(upload_layout(plan.layout, strategy, statistics).size if self._codec else 0)
        self._sent = desk.outbox[: upload_layout(plan.layout, strategy, statistics).size]
        self._statistics, self._base = statistics, ""
        left_out = residual_layout(plan.layout, strategy, statistics).size
        self._residual = residual_of(desk.state[own.size : own.size + left_out])

    def prepare(self) -> dict[str, Any]:
        """What is about to be trained: the model's header, examples to train on and held out, bytes of a step."""
        training, held_out = self._amounts
        return {
            "layout": header_bytes(self._plan.layout),
            "digest": self._plan.digest,
            "examples": training,
            "held_out": held_out,
            "estimate": self._trainer.estimate.memory,
        }

    def receive(self) -> dict[str, Any]:
        """A model came into the inbox in the form that travels; it becomes the model that it stands for.

        Its SHA-256 is its `base`, where the strategy asks for it.
        """
        self._rounding.widen(self._came)
        self._base = sha256(self._inbox).hexdigest() if self._strategy.names_base else ""
        return {"base": self._base} if self._base else {}

    def fit(
        self,
        round: int = 0,  # noqa: A002 - the word of the protocol
        seed: int | None = None,
        epochs: int | None = None,
        steps: int | None = None,
        secret: bytes = b"",
        norm: bool = False,
    ) -> dict[str, Any]:
        """Train the model of the inbox into an update in the outbox; the `numbers` it gives belong into its report.

        `seed`, `epochs` and `steps` take the place of the plan's. Of progress it says step, steps, epoch and loss.
        A plan with `dp` needs a `secret`, 16 random bytes used once; of it no loss is told, for that is not noised.
        With `norm`, the L2 norm of what the parameters moved is told, which is for this node's owner.
        """
        before = time.perf_counter()
        if seed is not None:
            self._plan.recipe = msgspec.structs.replace(self._plan.recipe, seed=seed)  # the trainer reads it there
        numbers = self._measured()
        self._outbox[:] = self._inbox
        point("worker-before-fit")
        came, made = self._states["inbox"], self._states["outbox"]
        fitted = self._trainer.fit(
            made,
            round_number=round,
            epochs=epochs,
            steps=steps,
            rule=self._strategy.client,
            server=came,
            own=self._own,
            progress=Reporter(self._progress, self._epoch),
            secret=secret,
        )
        private = self._plan.recipe.dp is not None
        if not (self._is_finite() if private else math.isfinite(fitted.loss)):
            raise WorkerFailed("the training diverged: its loss is not a finite number")
        point("worker-after-fit")
        moved = {"norm": self._norm()} if norm else {}
        numbers |= self._finish(self._strategy, self._plan.recipe, fitted, came, made, self._own)
        return (
            self._encoded()
            | moved
            | {
                "examples": fitted.examples,
                "steps": fitted.steps,
                "metrics": {} if private else {"loss": fitted.loss},
                "numbers": numbers,
                "seconds": time.perf_counter() - before,
            }
        )

    def _norm(self) -> float:
        """How far the parameters moved from the model in the inbox to that in the outbox, all together."""
        came, made = self._states["inbox"], self._states["outbox"]
        names = [entry.name for entry in self._plan.recipe.model.named("param")]
        return math.sqrt(sum(float(np.sum(np.square(np.asarray(made[n]) - np.asarray(came[n])))) for n in names))

    def _is_finite(self) -> bool:
        """Whether the model in the outbox is: all that may be asked of a private one."""
        names = [entry.name for entry in self._plan.recipe.model.named("param")]
        return all(bool(np.isfinite(np.asarray(self._states["outbox"][name])).all()) for name in names)

    def _encoded(self) -> dict[str, Any]:
        """Encode the update in the outbox, and name its model as `base`, where the strategy asks for it."""
        if self._codec is not None:
            self._codec.encode(self._inbox, self._outbox, self._residual, memoryview(self._coded))
            self._sent[:] = self._coded
        return {"base": self._base or sha256(self._inbox).hexdigest()} if self._strategy.names_base else {}

    def mask(
        self,
        added: list[bytes],
        subtracted: list[bytes],
        seed: bytes,
        noise: bytes,
        parties: int,
        own: list[Any],
        clip: float = 0.0,
    ) -> dict[str, Any]:
        """The update in the outbox as a vector under masks of these seeds (16 bytes each), of up to `parties` nodes.

        `own` is `masked.Own`; `seed` draws its rounding, `noise` its noise (16 bytes each, used once). The model in
        the inbox is what it was learned on top of; `clip` the round's, where it is not the strategy's.
        """
        if not self._strategy.masked:
            raise WorkerFailed("this strategy's updates travel without masks")
        said = Own(*own)
        vectors = Vectors(self._strategy, self._plan.layout, self._statistics, len(said.metrics), parties, clip)
        rng = np.random.default_rng(int.from_bytes(seed, "big"))
        vector = vectors.vector(self._inbox, self._outbox, said, rng, noise)
        add_masks(vector, added, subtracted)
        self._sent[:] = vector.view(np.uint8).data
        return {}

    def _measured(self) -> dict[str, float]:
        """F_k(w^t) for q-FedAvg: the loss of the model that came, on the examples to train on."""
        if not isinstance(self._strategy.aggregation, QFair):
            return {}
        loss = self._trainer.evaluate(self._states["inbox"], "train").loss
        return {} if loss is None else {"loss": loss}

    def evaluate(self, split: str = "held-out", model: Literal["inbox", "outbox"] = "inbox") -> dict[str, Any]:
        """Loss and metrics of a model on the `train` or `held-out` examples; `{}` where there are none."""
        score = self._trainer.evaluate(self._states[model], split)
        loss = {} if score.loss is None else {"loss": score.loss}
        return {"examples": score.examples, "metrics": loss | score.metrics}
