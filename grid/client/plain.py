"""The grid for notebooks and scripts: the async client on a loop of its own, in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack
from typing import Any, Generic, Self, TypeVar

from grid.client import display
from grid.client.datasets import AsyncDataset
from grid.client.grid import Grid
from grid.client.models import AsyncModel
from grid.client.projects import AsyncProject
from grid.client.requests import AsyncRequest
from grid.client.run import AsyncRun, B, Result
from grid.learning.plan import Plan
from grid.learning.questions import Question
from grid.learning.study import Study
from grid.wire.accounts import AccountInfo
from grid.wire.node import DatasetInfo
from grid.wire.projects import Batch, ProjectInfo
from grid.wire.requests import RequestInfo
from grid.wire.runs import Event, RunInfo

T = TypeVar("T")

FAREWELL = 5.0
"""Seconds that what was cancelled gets to end."""


class Loop:
    """An event loop in a thread. It ends with the program."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="grid", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` on the loop and wait for it; Ctrl-C cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def stop(self) -> None:
        """End the loop, and what still runs on it."""
        self.run(_end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _end_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=FAREWELL)
    loop = asyncio.get_running_loop()
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()


class Run(Generic[B]):
    """One run. `result()` waits for its end and shows a line for each round."""

    def __init__(self, loop: Loop, run: AsyncRun[B]) -> None:
        self._run: AsyncRun[B] = run
        self._loop = loop

    @property
    def id(self) -> str:
        """The run's id."""
        return self._run.id

    @property
    def skipped(self) -> tuple[str, ...]:
        """Nodes that have such data, and were left out because they never proved who they are."""
        return self._run.skipped

    def info(self) -> RunInfo:
        """Where it stands now."""
        return self._loop.run(self._run.info())

    def stop(self) -> RunInfo:
        """End it; what it learned so far stays."""
        return self._loop.run(self._run.stop())

    def watch(self) -> Iterator[Event]:
        """Everything that happens, as it happens, until the run is over."""
        return _each(self._loop, self._run.watch())

    def result(self, progress: bool = True) -> Result[B]:
        """Wait for the end and get what was learned. Raises RunRefused, with the reason, if the run failed."""
        shown = display.Progress(self._run.task.rounds) if progress else None
        return self._loop.run(self._run.result(shown))

    def get(self) -> B:
        """What the run has learned, once it is over and every node that holds it back has released it."""
        return self._loop.run(self._run.get())

    def checkpoint(self, round: int = 0) -> B:  # noqa: A002 - the word for it
        """The plan with the parameters of the newest checkpoint, or of that of a round, also while the run goes on."""
        return self._loop.run(self._run.checkpoint(round))

    @property
    def history(self) -> display.Rounds:
        """The rounds until now, with what each node measured."""
        history = self._loop.run(self._run.catch_up())
        return display.Rounds(history.lines(), history.best(self._run.task.stop))

    def __repr__(self) -> str:
        return f"Run({self.id}, {self._run.task.rounds} rounds)"


class Project:
    """One project, see `AsyncProject`: `start` begins a batch, `watch` tells how it goes, `run` what it came to."""

    def __init__(self, loop: Loop, project: AsyncProject) -> None:
        self._loop, self._project = loop, project
        self.id, self.document, self.role = project.id, project.document, project.role

    def info(self) -> ProjectInfo:
        """Who takes part, and how its batches went."""
        return self._loop.run(self._project.info())

    def admit(self, public_key: str) -> None:
        """Let the holder of a key join."""
        self._loop.run(self._project.admit(public_key))

    def start(self) -> Batch:
        """Run all tasks, in order: a new batch."""
        return self._loop.run(self._project.start())

    def stop(self) -> Batch:
        """Stop the batch that goes on."""
        return self._loop.run(self._project.stop())

    def restart(self) -> Batch:
        """Go on at the first task that did not succeed."""
        return self._loop.run(self._project.restart())

    def watch(self) -> Iterator[Event]:
        """Everything that happened, and what happens for as long as a batch goes on."""
        return _each(self._loop, self._project.watch())

    def run(self, task: int = 0, batch: int = 0) -> Run[Any]:
        """The run of a task in a batch (0: the last task that has one, of the newest batch)."""
        return Run(self._loop, self._loop.run(self._project.run(task, batch)))

    def __repr__(self) -> str:
        return repr(self._project)


def _each(loop: Loop, events: AsyncIterator[Event]) -> Iterator[Event]:
    while True:
        try:
            yield loop.run(anext(events))  # type: ignore[arg-type]
        except StopAsyncIteration:
            return


class Request:
    """A request of yours at a node. It goes on without you: `g.requests` finds it again."""

    def __init__(self, loop: Loop, request: AsyncRequest) -> None:
        self._loop, self._request = loop, request

    @property
    def info(self) -> RequestInfo:
        """As it was known last."""
        return self._request.info

    @property
    def state(self) -> str:
        """As it is now: pending, accepted, denied, ..."""
        return self._loop.run(self._request.refresh()).state

    def decided(self) -> RequestInfo:
        """Wait until an officer decided."""
        return self._loop.run(self._request.decided())

    def withdraw(self) -> RequestInfo:
        """Take it back."""
        return self._loop.run(self._request.withdraw())

    def __repr__(self) -> str:
        why = f": {self.info.why}" if self.info.why else ""
        return f"Request({self.info.id}, {self.info.asked.kind} of {self.info.asked.dataset}, {self.info.state}{why})"


class Dataset:
    """A dataset as whoever found it sees it: described, with a mock to try plans on."""

    def __init__(self, loop: Loop, dataset: AsyncDataset) -> None:
        self._loop, self._dataset = loop, dataset

    @property
    def info(self) -> DatasetInfo:
        """What its node tells about it."""
        return self._dataset.info

    @property
    def name(self) -> str:
        """By what its node knows it."""
        return self.info.name

    @property
    def mock(self) -> dict[str, Any]:
        """Arrays like those of the dataset, with nobody's data in them: try a plan on these before you ask."""
        return self._loop.run(self._dataset.mock())

    def try_plan(self, plan: Plan, **tensors: Any) -> dict[str, float]:
        """Train a plan on the mock, in this process: its loss and metrics there, or why it would not fit."""
        return self._loop.run(self._dataset.try_plan(plan, **tensors))

    def request_access(self, reason: str, **what: Any) -> Request:
        """Ask the node for access, and say why: see `AsyncDataset.request_access`."""
        return Request(self._loop, self._loop.run(self._dataset.request_access(reason, **what)))

    def tensor(self, name: str) -> Any:
        """One tensor, as an array, where you may have it."""
        return self._loop.run(self._dataset.tensor(name))

    def __repr__(self) -> str:
        return f"Dataset({self.name!r} at {self._dataset.node}, {self.info.examples} examples)"


class Model:
    """A model that a node hosts: see `AsyncModel`."""

    def __init__(self, loop: Loop, model: AsyncModel) -> None:
        self._loop, self._model = loop, model
        self.info, self.name = model.info, model.name

    def predict(self, rows: Any, *, variant: str = "", checkpoint: str = "") -> Any:
        """What it answers for rows (n, ...), computed at its node."""
        return self._loop.run(self._model.predict(rows, variant=variant, checkpoint=checkpoint))

    def download(self, *, variant: str = "", checkpoint: str = "") -> Plan:
        """Its plan with the values of a checkpoint, where that may be had."""
        return self._loop.run(self._model.download(variant=variant, checkpoint=checkpoint))

    def __repr__(self) -> str:
        return repr(self._model)


class PlainGrid:
    """A grid; made by `grid.connect`. The same as the async `Grid`, with calls that wait.

    Close it, or let the program end: nothing of it outlives its process.
    """

    def __init__(self, loop: Loop, grid: Grid, opened: AsyncExitStack) -> None:
        self._loop, self._grid, self._opened = loop, grid, opened

    @property
    def public_key(self) -> str:
        """The key that owners trust when they let you train (`grid-node peer trust KEY`)."""
        return self._grid.identity.id

    def login(self, address: str, name: str, password: str) -> AccountInfo:
        """Sign in at the node or gateway at an address: your key stands for the account there from then on."""
        return self._loop.run(self._grid.login(address, name, password))

    def search(self, *tags: str, match: str = "all", live: bool = False) -> display.Nodes:
        """The nodes that have data with these tags: all of them, or any; `live` asks the nodes themselves."""
        return display.Nodes(self._loop.run(self._grid.search(*tags, match=match, live=live)))

    def datasets(self, *tags: str) -> display.DatasetTable[Dataset]:
        """The datasets of each node that has data with these tags."""
        found: dict[str, tuple[AsyncDataset, ...]] = self._loop.run(self._grid.datasets(*tags))
        return display.DatasetTable(
            {node: tuple(Dataset(self._loop, each) for each in those) for node, those in found.items()}
        )

    def train(self, plan: Plan, data: Any, **settings: Any) -> Run[Plan]:
        """Start a run; see `Grid.train` for the settings. Raises GridError, with the reason."""
        return Run(self._loop, self._loop.run(self._grid.train(plan, data, **settings)))

    def request_training(self, plan: Plan, data: Any, *, reason: str, **settings: Any) -> list[Request]:
        """Ask every node with such data to admit a run: see `Grid.request_training`."""
        asked = self._loop.run(self._grid.request_training(plan, data, reason=reason, **settings))
        return [Request(self._loop, each) for each in asked]

    def requests(self, *nodes: str) -> list[Request]:
        """Your requests at the nodes of these addresses, answered or not."""
        return [Request(self._loop, each) for each in self._loop.run(self._grid.requests(*nodes))]

    def models(self, *nodes: str) -> list[Model]:
        """The models that you may see at the nodes of these addresses: ask them, or fetch them."""
        return [Model(self._loop, each) for each in self._loop.run(self._grid.models(*nodes))]

    def analyse(self, question: Question, data: Any, **settings: Any) -> Run[Study]:
        """Ask a question of all rows; see `Grid.analyse` for the settings. Raises GridError, with the reason."""
        return Run(self._loop, self._loop.run(self._grid.analyse(question, data, **settings)))

    def evaluate(self, plan: Plan, data: Any, **settings: Any) -> Run[Study]:
        """How a plan does as it is; see `Grid.evaluate` for the settings. Raises GridError, with the reason."""
        return Run(self._loop, self._loop.run(self._grid.evaluate(plan, data, **settings)))

    def runs(self, coordinator: str | None = None) -> display.Runs:
        """Your runs at a coordinator (None: the one in this process), newest first."""
        return display.Runs(self._loop.run(self._grid.runs(coordinator)))

    def run(self, run: str, coordinator: str | None = None) -> Run[Any]:
        """A run of yours by its id, also one that another program began. Raises GridError, with the reason."""
        return Run(self._loop, self._loop.run(self._grid.run(run, coordinator)))

    def projects(self, node: str) -> list[Project]:
        """The projects of your node at an address, newest first."""
        return [Project(self._loop, each) for each in self._loop.run(self._grid.projects(node))]

    def project(self, project: str, node: str) -> Project:
        """One of them by its id. Raises GridError, with the reason."""
        return Project(self._loop, self._loop.run(self._grid.project(project, node)))

    def close(self) -> None:
        """Let go of connections, and of a coordinator in this process."""
        if self._opened is not None:
            self._loop.run(self._opened.aclose())
            self._loop.stop()
            self._opened = None  # type: ignore[assignment]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
