"""A seat as its caller holds it: shared memory, a channel, and a deadline for every call."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from grid.wire.problems import GpuFailed, GridError, WorkerLost, from_problem
from grid.worker.channel import BadFrame, Call, Fork, Opening, Said, frame, hear
from grid.worker.launch import ZygoteProcess
from grid.worker.memory import SharedMemory
from grid.worker.port import Limits, Progress

OPEN_DEADLINE = 30.0  # seconds to fork a seat and confine it
REPORT_DEADLINE = 5.0  # seconds for the zygote to say how a seat ended
PROGRESS_CAP = 10_000  # frames per call: more is a flood
DETAIL_CAP = 1000  # characters of a problem that a seat may have written


class LocalSeat:
    """A seat in a process of this machine. Made by `LocalEngine.open`.

    `without_gpu` hears why a job could not be done on the GPU of this seat, and says whether another seat may do it
    without one; None where the seat has none.
    """

    def __init__(
        self,
        number: int,
        zygote: ZygoteProcess,
        limits: Limits,
        memories: Sequence[SharedMemory],
        device: str = "cpu",
        without_gpu: Callable[[str], bool] | None = None,
    ) -> None:
        self._number, self._zygote, self._limits = number, zygote, limits
        self._device, self._without_gpu = device, without_gpu
        self._inbox, self._outbox, self._state = memories
        self._turn = asyncio.Lock()
        self._failure: str | None = None
        self._cleanup = ExitStack()

    @property
    def number(self) -> int:
        """By what its engine knows it."""
        return self._number

    @property
    def inbox(self) -> memoryview:
        """Parameters in: writable, one model long."""
        return self._inbox.view

    @property
    def outbox(self) -> memoryview:
        """Result out: one model long."""
        return self._outbox.view

    @property
    def state(self) -> memoryview:
        """What the job keeps from call to call: writable, zeros at first."""
        return self._state.view

    @property
    def device(self) -> str:
        """What the job computes on, as `gpus.Gpu` writes it."""
        return self._device

    @property
    def pid(self) -> int | None:
        """The process behind it, while it runs."""
        return self._zygote.pids.get(self._number)

    @property
    def failure(self) -> str | None:
        """Why this seat serves no more, or None while it does."""
        return self._failure

    async def begin(self, files: Sequence[tuple[str, int]], spill: Sequence[int], opening: Opening) -> None:
        """Have the seat forked and confined. `files` are names and open descriptors, kept by the caller.

        `spill` is the descriptor of the file that the job may fill, or nothing.
        """
        ours, theirs = socket.socketpair()
        memories = (self._inbox, self._outbox, self._state)
        try:
            shared = [memory.descriptor for memory in memories]
            descriptors = [theirs.fileno(), *shared, *spill, *(descriptor for _, descriptor in files)]
            order = Fork(self._number, tuple(name for name, _ in files), bool(spill))
            self._end = self._zygote.fork(order, descriptors)
            self._reader, self._writer = await asyncio.open_unix_connection(sock=ours)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            for memory in memories:
                memory.hand_over()
        self._cleanup.callback(self._writer.close)
        _body(await self._exchange(frame(opening), OPEN_DEADLINE))

    def when_closed(self, then: Callable[[], None]) -> None:
        """Have `then` called once, when the seat is closed."""
        self._cleanup.callback(then)

    async def call(self, verb: str, on_progress: Progress | None = None, **arguments: Any) -> dict[str, Any]:
        """Run one verb of the job: see `Seat.call`."""
        async with self._turn:
            try:
                return _body(await self._exchange(frame(Call(verb, arguments)), self._limits.wall, on_progress))
            except GpuFailed as failed:  # what CUDA holds after an error is not to be relied on
                lost = self._give_up(f"the job failed on {self._device}: {failed.detail}")
                if self._may_go_on_without_gpu(failed.detail):
                    raise lost from None
                raise

    async def close(self) -> None:
        """End the seat and give back its memory. May be called twice."""
        self._give_up("this seat is closed")
        self._cleanup.close()
        self._inbox.close()
        self._outbox.close()
        self._state.close()

    async def _exchange(self, question: bytes, deadline: float, on_progress: Progress | None = None) -> Said:
        """Ask and wait for the answer. Leaving in any other way ends the seat: it would be out of step."""
        if self._failure:
            raise WorkerLost(self._failure)
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
            ended = await self._how_it_ended()
            self._may_go_on_without_gpu(ended)  # a driver may end its process
            raise self._give_up(ended) from None
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

    def _may_go_on_without_gpu(self, why: str) -> bool:
        return self._without_gpu is not None and self._without_gpu(why)

    def _give_up(self, reason: str) -> WorkerLost:
        if self._failure is None:
            self._failure = reason
            self._zygote.kill(self._number)
        return WorkerLost(self._failure)


def _body(said: Said) -> dict[str, Any]:
    """The result, or the seat's problem raised as the error that it speaks of."""
    if said.kind == "result":
        return said.body
    error = from_problem(said.body, GridError.status)
    raise type(error)(error.detail[:DETAIL_CAP])
