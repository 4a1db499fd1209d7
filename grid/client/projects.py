"""Projects as the owner of their coordinator's node sees them: started, stopped, watched, and what they came to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from grid.client.calls import Calls
from grid.client.reattach import Driver, attach
from grid.client.run import AsyncRun
from grid.crypto.identity import Identity, public_from_id
from grid.protocol.documents import read_document
from grid.wire import projects as wire
from grid.wire.endpoint import Endpoint
from grid.wire.problems import RunNotFound
from grid.wire.runs import After, Event

Takes = TypeVar("Takes")
Gives = TypeVar("Gives")

WAIT = 20.0
"""Seconds that the node has to say what happens next."""

GOING_ON = frozenset({"running", "stopping"})


class AsyncProject:
    """One project of the node that `driver` names. Its owner's key is the caller's. Made by `Grid.project`."""

    def __init__(
        self, calls: Calls, identity: Identity, driver: Driver, info: wire.ProjectInfo, now: Callable[[], float]
    ) -> None:
        self._calls, self._identity, self._driver, self._now = calls, identity, driver, now
        self.document = read_document(info.project, wire.Project, wire.PROJECT)
        self.role = info.role

    @property
    def id(self) -> str:
        """The project's id."""
        return self.document.project

    async def info(self) -> wire.ProjectInfo:
        """Who takes part, and how its batches went."""
        return await self._ask(wire.PROJECT_INFO)

    async def admit(self, public_key: str) -> None:
        """Let the holder of a key join."""
        await self._ask(wire.ADMIT, wire.Admit(public_key))

    async def start(self) -> wire.Batch:
        """Run all tasks, in order: a new batch. Raises OutOfTurn, NoParticipants."""
        return (await self._ask(wire.START_PROJECT)).batches[-1]

    async def stop(self) -> wire.Batch:
        """Stop the batch that goes on. What was learned stays. Raises OutOfTurn."""
        return (await self._ask(wire.STOP_PROJECT)).batches[-1]

    async def restart(self) -> wire.Batch:
        """Go on at the first task that did not succeed. Raises OutOfTurn, NoParticipants."""
        return (await self._ask(wire.RESTART_PROJECT)).batches[-1]

    async def watch(self, after: int = 0, *, follow: bool = True) -> AsyncIterator[Event]:
        """Everything that happened and, to `follow`, what happens for as long as a batch goes on."""
        wait = 0.0
        while True:
            heard = (await self._ask(wire.PROJECT_EVENTS, query=After(after, wait))).events
            for event in heard:
                after = event.cursor
                yield event
            if not heard and not (follow and any(batch.state in GOING_ON for batch in (await self.info()).batches)):
                return
            wait = 0.0 if heard else WAIT

    async def run(self, task: int = 0, batch: int = 0) -> AsyncRun[Any]:
        """The run of a task in a batch (0: the last task that has one, of the newest batch): watch it, get its model.

        Raises:
            RunNotFound: that task was not run in that batch.
        """
        batches = (await self.info()).batches
        chosen = [each for each in batches if each.number == (batch or len(batches))]
        runs = [run for each in chosen for run in each.runs if task in {0, run.task}]
        if not runs:
            raise RunNotFound(f"task {task or 1} was not run in batch {batch or len(batches)} of this project")
        return await attach(self._calls, self._identity, self._driver, runs[-1].run, self._now)

    async def _ask(self, endpoint: Endpoint[Takes, Gives], message: Takes | None = None, *, query: Any = None) -> Gives:
        peer = public_from_id(self._driver.public_key)
        return await self._calls.call(self._driver.address, endpoint, message, query=query, peer=peer, project=self.id)

    def __repr__(self) -> str:
        tasks = ", ".join(task.name for task in self.document.tasks)
        return f"Project({self.document.name}, {self.role}: {tasks})"
