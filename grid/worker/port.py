"""The port to computation: what a job is, and what one can ask of whoever runs it.

Everything here is plain data and shapes; the daemon holds it without loading numpy or torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol

import msgspec

from grid.learning.layouts import (
    model_layout,
    own_layout,
    residual_layout,
    state_layout,
    statistics_of,
    update_layout,
    upload_layout,
)
from grid.learning.plan import RECIPE
from grid.learning.questions import LEAST_ROWS
from grid.learning.recipe import Limits as Grant
from grid.learning.recipe import Recipe
from grid.learning.strategy import FEDAVG, Strategy
from grid.learning.study import QUESTION, read_question, travelling_layout
from grid.learning.tensors import MAX_HEADER, Layout, read_header, strict_json
from grid.wire.problems import PlanRefused
from grid.worker.roster import Worker

MIB = 1 << 20
CIPHER_BLOCK = 16
ANSWERS = 4 * MIB
"""Bytes: the most that the answers of one `PredictJob` may have."""
USUAL_GRANT = Grant()


class Priority(IntEnum):
    """What goes first where jobs wait for a seat: the lower number, because others wait for what comes of it."""

    FOLD = 0
    EVALUATION = 1
    TRAINING = 2


Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Limits:
    """What one job may use. A job over a limit ends, and its caller gets `WorkerFailed`.

    `memory` is in bytes above the pre-loaded process, the job's data and its two shared memories;
    `cpu` (rounded up) and `wall` are in seconds per call; `files` counts open descriptors; `disk` is how long, in
    bytes, the one file may grow that a job spills into, which its engine grants as its work needs.
    """

    memory: int = 2048 * MIB
    cpu: float = 3600.0
    wall: float = 3600.0
    threads: int = 1
    files: int = 16
    disk: int = 0


@dataclass(frozen=True)
class Work:
    """A job as a seat gets it: the entry of the job table, its arguments, its files, one model's size in bytes.

    `state_bytes`: what the seat keeps between calls and its caller keeps between seats; `spill_bytes`: how much the
    job may put aside on disk. `priority` and `run` decide its place where jobs wait: see `queue`.
    `accelerable`: it is faster on a GPU, where there is one: see `placement`.
    """

    job: str
    arguments: Mapping[str, Any]
    files: Mapping[str, Path]
    model_bytes: int
    state_bytes: int = 0
    spill_bytes: int = 0
    priority: Priority = Priority.TRAINING
    run: str = ""
    accelerable: bool = False


class Job(Protocol):
    """What an engine can open a seat for."""

    @property
    def limits(self) -> Limits:
        """What the job may use."""

    def work(self) -> Work:
        """The job as a seat gets it. Reads headers at most.

        Raises:
            GridError: a file is not what it must be.
        """


@dataclass(frozen=True)
class TrainJob:
    """Train one plan on one dataset: a bundle file (plan and start parameters) and a safetensors file.

    `inputs` and `target` name tensors of the dataset; `holdout` is the share of examples, 0 to 1,
    kept apart by `seed` for evaluation. `grant` is what the node's owner allows plans (its memory and
    threads are those of `limits`). Verbs: `prepare`, `fit(round, seed, epochs, steps)`, `evaluate(split, model)`, and
    `receive()` before these: the model in the inbox came in the form that travels.

    Inbox and outbox are what the `strategy` lets travel down and up; `state` is this node's own part in it, to be
    saved when an update was accepted. `fit` gives the `numbers` that belong into the update's report.
    `priority` and `run` (whose jobs share the seats fairly) decide its place where jobs wait.

    Where the strategy adds up, the bundle is a study of how a plan does, and `fit` says that instead of training: for
    `least_rows` examples and more.
    """

    bundle: Path
    tensors: Path
    inputs: tuple[str, ...]
    target: str
    holdout: float = 0.2
    seed: int = 0
    limits: Limits = Limits()
    grant: Grant = USUAL_GRANT
    strategy: Strategy = FEDAVG
    priority: Priority = Priority.TRAINING
    run: str = ""
    least_rows: int = LEAST_ROWS

    def work(self) -> Work:
        """Two files and what to do with them; of the bundle's header, the size of a model."""
        arguments: dict[str, Any] = {
            "inputs": self.inputs,
            "target": self.target,
            "holdout": self.holdout,
            "seed": self.seed,
            "grant": msgspec.to_builtins(self.grant),
            "strategy": msgspec.to_builtins(self.strategy),
        }
        files = {"bundle": self.bundle, "tensors": self.tensors}
        layout, statistics = trained_layout(self.bundle)
        if self.strategy.analyses:
            arguments["least_rows"] = self.least_rows
            size = _longest(layout, self.strategy, ())
            return Work("evaluate", arguments, files, size, priority=self.priority, run=self.run, accelerable=True)
        model = _longest(layout, self.strategy, statistics)
        kept = [each(layout, self.strategy, statistics) for each in (own_layout, residual_layout)]
        state = sum(each.size for each in kept)
        return Work("train", arguments, files, model, state, priority=self.priority, run=self.run, accelerable=True)


@dataclass(frozen=True)
class AnalyseJob:
    """Answer one question about one dataset: a bundle file (the question) and a safetensors file.

    `columns` says where each column that it reads lies: tensor, place in it, and the numbers that its codes stand for
    (none: as they are). No count of fewer than `least_rows` rows leaves the node by itself. Verbs are those of
    `TrainJob`, of which `fit` computes the part of what is known in the inbox, and `evaluate` has nothing to say.
    """

    bundle: Path
    tensors: Path
    columns: Mapping[str, tuple[str, int, tuple[float, ...]]]
    strategy: Strategy
    least_rows: int
    limits: Limits = Limits()
    run: str = ""

    def work(self) -> Work:
        """Two files and what to do with them; of the bundle's header, how long a part is."""
        arguments = {
            "columns": dict(self.columns),
            "strategy": msgspec.to_builtins(self.strategy),
            "least_rows": self.least_rows,
        }
        layout, _ = trained_layout(self.bundle)
        files = {"bundle": self.bundle, "tensors": self.tensors}
        return Work("analyse", arguments, files, _longest(layout, self.strategy, ()), run=self.run)


@dataclass(frozen=True)
class PredictJob:
    """Answer for rows that somebody asks about, by a plan with its parameters (`bundle`) and a safetensors file.

    `asked` has the plan's inputs, by name. The one verb is `predict(epsilon, secret)`: the answers are in the outbox,
    as the `dtype` and `shape` that it gives say: the plan's first output, or, with an `epsilon`, labels that are told
    under differential privacy, drawn from the `secret` (16 random bytes, used once).
    """

    bundle: Path
    asked: Path
    limits: Limits = Limits()
    run: str = ""

    def work(self) -> Work:
        """Two files, and room for the answers."""
        files = {"bundle": self.bundle, "asked": self.asked}
        return Work("predict", {}, files, ANSWERS, priority=Priority.EVALUATION, run=self.run)


@dataclass(frozen=True)
class FoldJob:
    """Make the next model of the updates of a round. `layout` is the safetensors header of the plan's layout.

    For an analysis, its metadata holds the question, and the model is what is known.

    `statistics` names what in it is not trained. A strategy that looks at all updates at once keeps up to `updates`
    of them on disk, and works on them in `budget` bytes of memory. Verbs:

    * `begin(current, population)`: a new round; `current="inbox"` where the inbox holds the model that it begins with
      (needed if `strategy.needs_current`), `"outbox"` if that is the last result. `population`: N of SCAFFOLD.
    * `check()` the update of the inbox; `fold(weight, loss, normaliser, staleness)` it, `weight` in examples,
      the others where the strategy asks.
    * `origin()`: the inbox holds the model that updates began with; `apart()`: it holds that less what was learned,
      which takes its place.
    * `round()`: a model in the inbox takes the form in which it travels, there.
    * `result()`: the next model is in the outbox, and in `state` what belongs to it: save both together.
    """

    layout: bytes
    strategy: Strategy = FEDAVG
    statistics: tuple[str, ...] = ()
    updates: int = 0
    budget: int = 64 * MIB
    limits: Limits = Limits()

    def work(self) -> Work:
        """No file at all: models come one after the other through the inbox."""
        plan = read_header(self.layout)[0]
        size = update_layout(plan, self.strategy, self.statistics).size
        longest = _longest(plan, self.strategy, self.statistics)
        arguments = {
            "layout": self.layout,
            "strategy": msgspec.to_builtins(self.strategy),
            "statistics": self.statistics,
            "budget": self.budget,
        }
        state = state_layout(plan, self.strategy, self.statistics).size
        spill = self.updates * spilled_size(size) if self.strategy.holds_updates else 0
        return Work("fold", arguments, {}, longest, state, spill, Priority.FOLD)


def _longest(plan: Layout, strategy: Strategy, statistics: Collection[str]) -> int:
    """Bytes of a model, or of an update as it is or as it travels, whichever has most."""
    return max(each(plan, strategy, statistics).size for each in (model_layout, update_layout, upload_layout))


def spilled_size(size: int) -> int:
    """Bytes that an update of `size` bytes takes on disk: whole blocks of its cipher."""
    return -(-size // CIPHER_BLOCK) * CIPHER_BLOCK


def trained_layout(bundle: Path) -> tuple[Layout, tuple[str, ...]]:
    """What a plan trains, and what of it are running statistics, from the header of its bundle; a question's layout.

    Raises:
        PlanRefused, QuestionRefused: not a bundle.
    """
    with bundle.open("rb") as file:
        head = file.read(8 + MAX_HEADER)
    layout, metadata, _ = read_header(head, total=bundle.stat().st_size)
    if QUESTION in metadata:
        return travelling_layout(read_question(metadata)), ()
    try:
        recipe = msgspec.convert(strict_json(metadata[RECIPE].encode()), Recipe)
    except (KeyError, msgspec.ValidationError) as error:
        raise PlanRefused(f"this bundle holds no recipe that can be read: {error}") from None
    sent = {entry.name for entry in recipe.model.named("param", "buffer")}
    return Layout(spec for spec in layout.specs if spec.name in sent), statistics_of(recipe)


class Seat(Protocol):
    """One sandboxed process that holds one job and serves calls on it, one at a time.

    `inbox` is memory that the caller fills before a call, `outbox` memory that the job filled
    after it; both keep their size and place for the life of the seat.
    """

    @property
    def inbox(self) -> memoryview:
        """Parameters in: writable, one model long."""

    @property
    def outbox(self) -> memoryview:
        """Result out: one model long."""

    @property
    def device(self) -> str:
        """What the job computes on, for its owner to read: `cpu`, or the GPU's number and model."""

    @property
    def state(self) -> memoryview:
        """What the job keeps from call to call: zeros at first. Its caller saves it, and restores it in a new seat."""

    async def call(self, verb: str, on_progress: Progress | None = None, **arguments: Any) -> dict[str, Any]:
        """Run one verb of the job. A call that is cancelled or overruns a limit ends the seat.

        Raises:
            GridError: the job refused; the seat serves on.
            WorkerFailed: the job broke.
            WorkerLost: the seat was ended, and another may have better luck; says which limit or signal.
            GpuFailed: the job cannot be done on its GPU, and may be done on nothing else.
        """

    async def close(self) -> None:
        """End the seat and give back its memory. May be called twice."""


class Engine(Protocol):
    """Whoever runs jobs: processes of this machine, or a cluster."""

    async def open(self, job: Job) -> Seat:
        """A seat for `job`; nothing of the job was read yet.

        Raises:
            SandboxMissing: policy asks for an isolation that is not there.
            WorkerBusy: every seat stayed taken, or too many wait for one; says when to ask again.
            WorkerFailed: no seat could be started.
        """

    def status(self) -> dict[str, Any]:
        """For `/status`: `seats`, how many are `taken`, how many jobs are `waiting`, and what else there is to say."""

    def workers(self) -> list[Worker]:
        """The seats, those that are taken first; free ones have numbers of their own."""

    def resize(self, seats: int) -> None:
        """Have so many seats from now on. Where more are taken, those beyond are given up as their jobs end."""

    def dismiss(self, number: int) -> None:
        """End the process of a seat that `workers` names, as if it had died. Nothing happens to one that is free.

        Raises:
            NotFound: there is no such worker.
        """

    async def close(self) -> None:
        """End every seat and every process behind them."""
