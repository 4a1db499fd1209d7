"""Carries out batches: each task of a project a run, one after the other, through stops and restarts of this node."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from grid.client.payload import mapped
from grid.learning.plan import Plan
from grid.learning.scheme import Scheme
from grid.learning.strategy import least_updates, read_strategy, travelling
from grid.learning.study import Study, read_bundle
from grid.learning.tensors import header_bytes
from grid.node.coordinator import Coordinator, Spawn
from grid.node.means import Means
from grid.node.project_records import ProjectRecords, read_membership
from grid.protocol.documents import read_document, sign_document
from grid.protocol.project import (
    OVER,
    STOPPING,
    SUCCESS,
    Batch,
    BatchRestarted,
    BatchStarted,
    RunStopped,
    StopAsked,
    TaskFailed,
    TaskFinished,
    advance,
    task_of,
)
from grid.transport.auth import Caller
from grid.wire.problems import GridError, NoParticipants, OutOfTurn, RunNotFound, StrategyRefused
from grid.wire.projects import Project, ProjectTask
from grid.wire.runs import TASK, Peer, Quorum, StartRun, Task

log = logging.getLogger(__name__)


SECURE = 3
"""Sites with which a task's updates are masked, unless it says how they travel."""


def secured(task: Task) -> Task:
    """The task with its updates under masks, where its strategy looks at sums alone; its quorum allows for it."""
    try:
        strategy = travelling(read_strategy(task.strategy), "masked")
    except StrategyRefused:  # a rule that looks at each update: its owner chose it, and with it that they are seen
        return task
    q, least = task.quorum, least_updates(strategy)
    quorum = replace(q, minimum=max(q.minimum, least), target=q.target and max(q.target, least))
    return replace(task, strategy=msgspec.to_builtins(strategy), quorum=quorum)


def going_on(plan: Plan | Study, learned: bytes) -> Plan | Study:
    """A plan, or that whose evaluation is asked for, with what was learned before; another question stays as it is."""
    if isinstance(plan, Plan):
        return plan.trained(learned)
    return plan if plan.plan is None else Study(plan.question, plan=plan.plan.trained(learned))


class Batches:
    """The batches that this node carries out. `folder` has a folder for each project, with its plans by digest."""

    def __init__(
        self, means: Means, records: ProjectRecords, coordinator: Coordinator, spawn: Spawn, folder: Path
    ) -> None:
        self._means, self._records, self._coordinator, self._spawn = means, records, coordinator, spawn
        self._folder = folder
        self._me = Caller(means.identity.public, means.identity.id, owner=True, kind="session")
        self._turn = asyncio.Lock()

    def go_on(self) -> None:
        """This node answers again: the batches that were going on go on."""
        self._spawn(self._resume())

    async def _resume(self) -> None:
        for batch in await self._records.unfinished():
            self._spawn(self._carry_out(batch.project))

    # --- what the owner asks -----------------------------------------------------------------------

    async def start(self, project: Project) -> None:
        """Begin a new batch. Raises OutOfTurn while one goes on, NoParticipants if nobody has joined."""
        await self._with_peers(project.project)
        async with self._turn:
            latest = await self._latest(project.project)
            if latest is not None and latest.state not in OVER:
                raise OutOfTurn(f"batch {latest.number} is {latest.state}")
            number = latest.number + 1 if latest else 1
            await self._move(Batch(project.project, number, len(project.tasks)), BatchStarted(_new_run()))
        self._spawn(self._carry_out(project.project))

    async def restart(self, project: Project) -> None:
        """Go on with the newest batch at the first task that did not succeed; if all did, begin a new one.

        Raises:
            OutOfTurn: it goes on already.
            NoParticipants: nobody has joined.
        """
        latest = await self._latest(project.project)
        if latest is None or latest.state == SUCCESS:
            await self.start(project)
            return
        await self._with_peers(project.project)
        async with self._turn:
            await self._move(await self._present(project.project), BatchRestarted(_new_run()))
        self._spawn(self._carry_out(project.project))

    async def stop(self, project: str) -> None:
        """Stop the batch that goes on. Raises OutOfTurn if none does."""
        async with self._turn:
            batch = await self._move(await self._present(project), StopAsked())
        await self._stop_run(batch.run)

    # --- one batch ----------------------------------------------------------------------------------

    async def _carry_out(self, project: str) -> None:
        """Follow a batch from run to run until it is over."""
        batch = await self._present(project)
        while batch.state not in OVER:
            came_to = await self._outcome(batch)
            async with self._turn:
                batch = await self._move(await self._present(project), came_to)

    async def _outcome(self, batch: Batch) -> TaskFinished | TaskFailed | RunStopped:
        """Have the batch's present run done, unless that was begun before; what it came to."""
        run = batch.run
        try:
            if await self._means.records.run(run, None) is None:
                if batch.state == STOPPING:
                    return RunStopped(run, "stopped before it began")
                await self._begin(batch)
            if (await self._present(batch.project)).state == STOPPING:  # asked for while the run was being started
                await self._stop_run(run)
            ended = await self._ended(run)
        except GridError as error:
            return TaskFailed(run, error.detail)
        except Exception:  # a full disk, a plan that cannot be read: the batch has to end, and may be begun anew
            log.exception("task %d of project %s broke", batch.task, batch.project)
            return TaskFailed(run, "the coordinator could not carry it out; its log says why")
        match ended["state"]:
            case "success":
                return TaskFinished(run, _new_run())
            case "stopped":
                return RunStopped(run, ended["reason"])
            case _:
                return TaskFailed(run, ended["reason"])

    async def _begin(self, batch: Batch) -> None:
        """Start the run of the batch's present task."""
        tasks = (await self._records.project(batch.project)).project.tasks
        asked = tasks[batch.task - 1]
        plan = await asyncio.to_thread(self.plan, batch.project, asked.plan)
        if asked.continues and (before := await self._trained_before(batch, tasks)):
            plan = going_on(plan, await self._learned(batch, before, tasks[before - 1]))
        peers = await self._with_peers(batch.project)
        await self._coordinator.hold(plan)
        task = task_of(asked, batch.run, plan.digest, self._means.identity.id, self._means.now())
        if isinstance(plan, Study) and "quorum" not in asked.parameters:
            task = replace(task, quorum=Quorum(len(peers)))  # an answer is that of all
        if "upload" not in task.strategy and len(peers) >= SECURE:
            task = secured(task)
        await self._coordinator.start(StartRun(sign_document(self._means.identity, TASK, task), peers), self._me)

    async def _trained_before(self, batch: Batch, tasks: Sequence[ProjectTask]) -> int:
        """The number of the last task before the present one that trains: between them may be questions. 0: none."""
        for number in range(batch.task - 1, 0, -1):
            if isinstance(await asyncio.to_thread(self.plan, batch.project, tasks[number - 1].plan), Plan):
                return number
        return 0

    async def _learned(self, batch: Batch, number: int, before: ProjectTask) -> bytes:
        """What a task before has learned in this batch: its plan's part of its last, or best, checkpoint."""
        done = [run for of, run in await self._records.runs(batch.project) if of == batch.number]
        run = [each.run for each in done if each.task == number and each.state == "success"][-1]
        path = await self._means.records.checkpoint(run, (await self._ended(run)).get("best", 0))
        if path is None:
            raise RunNotFound("what the task before has learned is not kept here any more")
        plan = await asyncio.to_thread(self.plan, batch.project, before.plan)
        done_by = read_document(await self._means.records.task(run), Task, TASK)
        scheme = Scheme(plan, read_strategy(done_by.strategy))
        return await asyncio.to_thread(scheme.plain, mapped(path)[len(header_bytes(scheme.model)) :])

    async def _ended(self, run: str) -> dict[str, Any]:
        """How a run ended; waits until it has."""
        await self._coordinator.gone(run)
        return await self._means.records.outcome(run) or {
            "state": "failed",
            "reason": "its coordinator could not go on",
        }

    async def _stop_run(self, run: str) -> None:
        if self._coordinator.drives(run):
            await self._coordinator.stop(run, self._me)

    async def _with_peers(self, project: str) -> tuple[Peer, ...]:
        """The sites that take part. Raises NoParticipants."""
        members = (await self._records.memberships(project)).items()
        said = [(key, read_membership(signed)) for key, signed in members if signed]
        peers = tuple(Peer(m.node_id, m.node_address, key) for key, m in said if not m.leaves)
        if not peers:
            raise NoParticipants("no site has joined this project")
        return peers

    # --- its own ------------------------------------------------------------------------------------

    def plan(self, project: str, digest: str) -> Plan | Study:
        """A plan, or a question, of a project, as it was handed in."""
        return read_bundle(mapped(self.path(project, digest)))

    def path(self, project: str, digest: str) -> Path:
        """Where a plan of a project is kept."""
        return self._folder / project / f"{digest}.safetensors"

    async def _latest(self, project: str) -> Batch | None:
        batches = await self._records.batches(project)
        return batches[-1][0] if batches else None

    async def _present(self, project: str) -> Batch:
        batch = await self._latest(project)
        if batch is None:
            raise OutOfTurn("this project was never started")
        return batch

    async def _move(self, batch: Batch, event: object) -> Batch:
        """A batch after an event, on disk."""
        after, _ = advance(batch, event)
        await self._records.moved(after)
        log.info("project %s: batch %d is %s at task %d", after.project, after.number, after.state, after.task)
        return after


def _new_run() -> str:
    return secrets.token_hex(16)
