"""The local adapter of the port: seats are processes of this machine, forked by one zygote.

The daemon imports this; numpy and torch live in the processes behind it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from grid.wire.problems import GridError, WorkerBusy, WorkerFailed, from_problem
from grid.worker import sandbox
from grid.worker.channel import BadFrame, Call, Opening, Said, frame, hear
from grid.worker.launch import ZygoteProcess
from grid.worker.memory import SharedMemory
from grid.worker.port import Engine, FoldJob, Job, Limits, Progress, Seat, TrainJob, Work
from grid.worker.sandbox import Isolation, IsolationPolicy, capabilities

__all__ = [
    "Engine", "FoldJob", "Isolation", "IsolationPolicy", "Job", "Limits",
    "LocalEngine", "LocalSeat", "Seat", "TrainJob", "capabilities",
]  # fmt: skip

OPEN_DEADLINE = 30.0  # seconds to fork a seat and confine it
REPORT_DEADLINE = 5.0  # seconds for the zygote to say how a seat ended
PROGRESS_CAP = 10_000  # frames per call: more is a flood
DETAIL_CAP = 1000  # characters of a problem that a seat may have written


class LocalSeat:
    """A seat in a process of this machine. Made by `LocalEngine.open`."""

    def __init__(self, number: int, zygote: ZygoteProcess, limits: Limits, memories: Sequence[SharedMemory]) -> None:
        self._number, self._zygote, self._limits = number, zygote, limits
        self._inbox, self._outbox = memories
        self._turn = asyncio.Lock()
        self._failure: str | None = None
        self._cleanup = ExitStack()

    @property
    def inbox(self) -> memoryview:
        """Parameters in: writable, one model long."""
        return self._inbox.view

    @property
    def outbox(self) -> memoryview:
        """Result out: one model long."""
        return self._outbox.view

    @property
    def pid(self) -> int | None:
        """The process behind it, while it runs."""
        return self._zygote.pids.get(self._number)

    @property
    def failure(self) -> str | None:
        """Why this seat serves no more, or None while it does."""
        return self._failure

    async def begin(self, files: Sequence[tuple[str, int]], opening: Opening) -> None:
        """Have the seat forked and confined. `files` are names and open descriptors, kept by the caller."""
        ours, theirs = socket.socketpair()
        try:
            descriptors = [theirs.fileno(), self._inbox.descriptor, self._outbox.descriptor, *(fd for _, fd in files)]
            self._end = self._zygote.fork(self._number, descriptors, [name for name, _ in files])
            self._reader, self._writer = await asyncio.open_unix_connection(sock=ours)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            self._inbox.hand_over()
            self._outbox.hand_over()
        self._cleanup.callback(self._writer.close)
        _body(await self._exchange(frame(opening), OPEN_DEADLINE))

    def when_closed(self, then: Callable[[], None]) -> None:
        """Have `then` called once, when the seat is closed."""
        self._cleanup.callback(then)

    async def call(self, verb: str, on_progress: Progress | None = None, **arguments: Any) -> dict[str, Any]:
        """Run one verb of the job: see `Seat.call`."""
        async with self._turn:
            return _body(await self._exchange(frame(Call(verb, arguments)), self._limits.wall, on_progress))

    async def close(self) -> None:
        """End the seat and give back its memory. May be called twice."""
        self._give_up("this seat is closed")
        self._cleanup.close()
        self._inbox.close()
        self._outbox.close()

    async def _exchange(self, question: bytes, deadline: float, on_progress: Progress | None = None) -> Said:
        """Ask and wait for the answer. Leaving in any other way ends the seat: it would be out of step."""
        if self._failure:
            raise WorkerFailed(self._failure)
        try:
            async with asyncio.timeout(deadline):
                self._writer.write(question)
                await self._writer.drain()
                return await self._answer(on_progress)
        except TimeoutError:
            raise self._give_up(f"the job took more than its limit of {deadline:g} s") from None
        except BadFrame as error:
            raise self._give_up(f"the job said what no job says: {error}") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise self._give_up(await self._how_it_ended()) from None
        except BaseException:
            self._give_up("a call of this seat was cancelled")
            raise

    async def _answer(self, on_progress: Progress | None) -> Said:
        for _ in range(PROGRESS_CAP):
            said = await hear(self._reader)
            if said.kind != "progress":
                return said
            if on_progress is not None:
                on_progress(said.body)
        raise BadFrame(f"more than {PROGRESS_CAP} reports of progress")

    async def _how_it_ended(self) -> str:
        try:
            async with asyncio.timeout(REPORT_DEADLINE):
                return await asyncio.shield(self._end)
        except TimeoutError:
            return "the job's process closed its channel"

    def _give_up(self, reason: str) -> WorkerFailed:
        if self._failure is None:
            self._failure = reason
            self._zygote.kill(self._number)
        return WorkerFailed(self._failure)


class LocalEngine:
    """Opens up to `seats` at once, forked from one zygote that is started when first needed.

    `idle`: seconds without a seat after which the zygote is stopped; None keeps it. `patience`: seconds
    that `open` waits for a free seat. `scratch`: an empty folder, the zygote's working and temporary one.
    `jobs` names the module with the job table; `isolation` the layers to put
    around jobs, all that the kernel offers if not given.
    """

    def __init__(
        self,
        preload: str,
        seats: int,
        scratch: Path,
        policy: IsolationPolicy = IsolationPolicy.REQUIRE,
        idle: float | None = None,
        patience: float = 30.0,
        jobs: str = "grid.worker.jobs",
        isolation: Isolation | None = None,
    ) -> None:
        self._preload, self._jobs, self._scratch = preload, jobs, scratch
        self._policy, self._idle, self._patience = policy, idle, patience
        self._seats, self._free = seats, asyncio.Semaphore(seats)
        self._taken = 0
        self._open: set[LocalSeat] = set()
        self._numbers = itertools.count(1)
        self._starting = asyncio.Lock()
        self._zygote: ZygoteProcess | None = None
        self._retirement: asyncio.TimerHandle | None = None
        self._isolation = capabilities() if isolation is None else isolation

    async def warm(self) -> None:
        """Start the zygote now, so that the first seat does not wait for it.

        Raises:
            SandboxMissing: no job may run here.
            WorkerFailed: it does not start.
        """
        sandbox.demand(self._policy, self._isolation)
        await self._started()
        self._retire_later()

    async def open(self, job: Job) -> LocalSeat:
        """A seat for `job`: see `Engine.open`."""
        sandbox.demand(self._policy, self._isolation)
        work = job.work()
        await self._take_place()
        try:
            seat = await self._seated(work, job.limits)
        except BaseException:
            self._give_place_back()
            raise
        self._open.add(seat)
        seat.when_closed(lambda: self._seat_closed(seat))
        return seat

    @property
    def zygote_pid(self) -> int | None:
        """The process that forks seats, while there is one."""
        return self._zygote.pid if self._zygote is not None and self._zygote.ready else None

    def status(self) -> dict[str, Any]:
        """Seats and isolation, for `/status`."""
        return {
            "preload": self._preload,
            "seats": self._seats,
            "taken": self._taken,
            "warm": self.zygote_pid is not None,
            "isolation": str(self._isolation),
            "policy": self._policy.value,
        }

    async def close(self) -> None:
        """End every seat and the zygote."""
        for seat in list(self._open):
            await seat.close()
        self._keep()
        if self._zygote is not None:
            await self._zygote.stopped()

    async def _take_place(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await self._free.acquire()
        except TimeoutError:
            raise WorkerBusy(f"all {self._seats} seats are taken", retry_after=self._patience) from None
        self._taken += 1
        self._keep()

    async def _seated(self, work: Work, limits: Limits) -> LocalSeat:
        zygote = await self._started()
        memories = [SharedMemory(name, work.model_bytes) for name in ("inbox", "outbox")]
        seat = LocalSeat(next(self._numbers), zygote, limits, memories)
        opening = Opening(work.job, dict(work.arguments), limits, self._isolation)
        try:
            with ExitStack() as files:
                await seat.begin([(name, _opened(path, files)) for name, path in work.files.items()], opening)
        except BaseException:
            await seat.close()
            raise
        return seat

    async def _started(self) -> ZygoteProcess:
        async with self._starting:
            if self._zygote is None or not self._zygote.ready:
                self._zygote = await ZygoteProcess.start(self._preload, self._jobs, self._scratch)
            return self._zygote

    def _seat_closed(self, seat: LocalSeat) -> None:
        self._open.discard(seat)
        self._give_place_back()

    def _give_place_back(self) -> None:
        self._taken -= 1
        self._free.release()
        self._retire_later()

    def _retire_later(self) -> None:
        """Let the zygote go after `idle` seconds in which nobody opens a seat."""
        self._keep()
        if self._idle is not None and not self._taken:
            self._retirement = asyncio.get_running_loop().call_later(self._idle, self._retire)

    def _keep(self) -> None:
        if self._retirement is not None:
            self._retirement.cancel()
            self._retirement = None

    def _retire(self) -> None:
        if self._zygote is not None:
            self._zygote.stop()


def _body(said: Said) -> dict[str, Any]:
    """The result, or the seat's problem raised as the error that it speaks of."""
    if said.kind == "result":
        return said.body
    error = from_problem(said.body, GridError.status)
    raise type(error)(error.detail[:DETAIL_CAP])


def _opened(path: Path, files: ExitStack) -> int:
    """A read-only descriptor that `files` closes. Follows no link in the last place: stored files are none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise WorkerFailed(f"a file of the job cannot be read: {error.strerror}") from error
    files.callback(os.close, descriptor)
    return descriptor
