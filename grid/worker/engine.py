"""The local adapter of the port: seats are processes of this machine, forked by one zygote.

The daemon imports this; numpy and torch live in the processes behind it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from grid.wire.problems import NotFound, WorkerBusy, WorkerFailed
from grid.worker import sandbox
from grid.worker.channel import GpuShare, Opening
from grid.worker.gpus import Device, Gpu
from grid.worker.launch import ZygoteProcess
from grid.worker.local_seat import LocalSeat
from grid.worker.memory import SharedMemory
from grid.worker.placement import Placement
from grid.worker.port import Engine, FoldJob, Job, Limits, Priority, Seat, TrainJob, Work
from grid.worker.queue import Full, Queue
from grid.worker.roster import Worker, load_of
from grid.worker.sandbox import Isolation, IsolationPolicy, capabilities

__all__ = [
    "Device", "Engine", "FoldJob", "Gpu", "Isolation", "IsolationPolicy", "Job", "Limits",
    "LocalEngine", "LocalSeat", "Priority", "Seat", "TrainJob", "capabilities",
]  # fmt: skip

log = logging.getLogger(__name__)

QUEUE = 64
"""Jobs that wait for a seat at most."""

GPU_SEATS = 2
"""Seats that share one GPU at most."""


class LocalEngine:
    """Opens up to `seats` at once, forked from one zygote that is started when first needed.

    `idle`: seconds without a seat after which the zygote is stopped; None keeps it. Where no seat is free, `open`
    waits in a queue of at most `queue` jobs, for at most `patience` seconds.
    `scratch`: an empty folder, the zygote's working and temporary one.
    `jobs` names the module with the job table; `isolation` the layers to put
    around jobs, all that the kernel offers if not given.
    `gpus` are for jobs that are faster there, each for `gpu_seats` of them at once; `device` says whether such a job
    may do without: where it is `CUDA`, there are no more seats than have a GPU.
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
        queue: int = QUEUE,
        gpus: tuple[Gpu, ...] = (),
        gpu_seats: int = GPU_SEATS,
        device: Device = Device.AUTO,
    ) -> None:
        self._device, self._placement = device, Placement(gpus, gpu_seats)
        seats = min(seats, self._placement.room) if device is Device.CUDA else seats
        self._preload, self._jobs, self._scratch = preload, jobs, scratch
        self._policy, self._idle, self._patience = policy, idle, patience
        self._seats, self._most, self._queue = seats, queue, Queue(seats, queue)
        self._calls: dict[int, asyncio.Future[None]] = {}  # of those who wait, by their numbers
        self._open: dict[LocalSeat, tuple[Work, float]] = {}
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
        place = await self._take_place(work)
        try:
            seat = await self._seated(work, job.limits)
        except BaseException:
            self._give_place_back(place)
            raise
        self._open[seat] = work, time.monotonic()
        seat.when_closed(lambda: self._seat_closed(seat, place))
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
            "taken": self._queue.taken,
            "waiting": self._queue.waiting,
            "warm": self.zygote_pid is not None,
            "isolation": str(self._isolation),
            "policy": self._policy.value,
            "device": self._device.value,
            "gpus": {str(gpu): held for gpu, held in self._placement.seats()},
        }

    def workers(self) -> list[Worker]:
        """See `Engine.workers`."""
        taken = [
            Worker(seat.number, work.job, work.run, since, seat.device, seat.pid, *load_of(seat.pid))
            for seat, (work, since) in self._open.items()
        ]
        used = {worker.number for worker in taken}
        free = (number for number in itertools.count(1) if number not in used)
        return taken + [Worker(next(free)) for _ in range(max(0, self._seats - len(taken)))]

    def resize(self, seats: int) -> None:
        """See `Engine.resize`. Where every job has to have a GPU, there are no more seats than they have room for."""
        self._seats = min(seats, self._placement.room) if self._device is Device.CUDA else seats
        self._queue.resize(self._seats)
        self._call_next()

    def dismiss(self, number: int) -> None:
        """See `Engine.dismiss`."""
        if number not in {worker.number for worker in self.workers()}:
            raise NotFound(f"there is no worker {number}")
        for seat in self._open:
            if seat.number == number and seat.pid is not None:
                os.kill(seat.pid, signal.SIGKILL)

    async def close(self) -> None:
        """End every seat and the zygote."""
        for seat in list(self._open):
            await seat.close()
        self._keep()
        if self._zygote is not None:
            await self._zygote.stopped()

    async def _take_place(self, work: Work) -> int:
        """Wait for one's turn; the number under which the place is held."""
        try:
            place = self._queue.join(work.priority, work.run)
        except Full:
            why = f"all {self._seats} seats are taken, and {self._most} jobs wait already"
            raise WorkerBusy(why, retry_after=self._patience) from None
        self._keep()
        called = self._calls[place] = asyncio.get_running_loop().create_future()
        self._call_next()
        try:
            async with asyncio.timeout(self._patience):
                await called
        except BaseException as error:
            self._give_place_back(place)
            if isinstance(error, TimeoutError):
                raise WorkerBusy(f"all {self._seats} seats are taken", retry_after=self._patience) from None
            raise
        finally:
            self._calls.pop(place, None)
        return place

    def _call_next(self) -> None:
        for number in self._queue.call():
            if not self._calls[number].done():  # else it is just leaving, and gives its place back
                self._calls[number].set_result(None)

    async def _seated(self, work: Work, limits: Limits) -> LocalSeat:
        """A seat on the GPU that the rule gives the job; if that fails, and may, one without."""
        number = next(self._numbers)
        gpu = self._placement.take(number, work.accelerable, work.run)
        try:
            return await self._begun(number, gpu, work, limits)
        except BaseException as failed:
            self._placement.leave(number)
            if (
                gpu is None
                or not isinstance(failed, WorkerFailed)
                or not self._goes_without(gpu, work.run, str(failed))
            ):
                raise
        return await self._begun(next(self._numbers), None, work, limits)

    def _goes_without(self, gpu: Gpu, run: str, why: str) -> bool:
        """Whether a job that failed on a GPU may be done on the processor; if so, its run stays there."""
        if self._device is Device.CUDA:
            return False
        log.warning("a job failed on %s, and goes on on the processor: %s", gpu, why)
        self._placement.avoid(run, why)
        return True

    async def _begun(self, number: int, gpu: Gpu | None, work: Work, limits: Limits) -> LocalSeat:
        zygote = await self._started()
        sizes = {"inbox": work.model_bytes, "outbox": work.model_bytes, "state": work.state_bytes}
        limits = replace(limits, disk=work.spill_bytes)
        memories = [SharedMemory(*each) for each in sizes.items()]
        without = None if gpu is None else partial(self._goes_without, gpu, work.run)
        seat = LocalSeat(number, zygote, limits, memories, str(gpu or "cpu"), without)
        seat.when_closed(lambda: self._placement.leave(number))
        share = None if gpu is None else GpuShare(gpu.id, self._placement.share)
        opening = Opening(work.job, dict(work.arguments), limits, self._isolation, share)
        try:
            with ExitStack() as files:
                spill = [_nameless(self._scratch, files)] if work.spill_bytes else []
                named = [(name, _opened(path, files)) for name, path in work.files.items()]
                await seat.begin(named, spill, opening)
        except BaseException:
            await seat.close()
            raise
        return seat

    async def _started(self) -> ZygoteProcess:
        async with self._starting:
            if self._zygote is None or not self._zygote.ready:
                self._zygote = await ZygoteProcess.start(self._preload, self._jobs, self._scratch)
            return self._zygote

    def _seat_closed(self, seat: LocalSeat, place: int) -> None:
        self._open.pop(seat, None)
        self._give_place_back(place)

    def _give_place_back(self, place: int) -> None:
        self._queue.leave(place)
        self._call_next()
        self._retire_later()

    def _retire_later(self) -> None:
        """Let the zygote go after `idle` seconds in which nobody opens a seat."""
        self._keep()
        if self._idle is not None and not self._queue.taken:
            self._retirement = asyncio.get_running_loop().call_later(self._idle, self._retire)

    def _keep(self) -> None:
        if self._retirement is not None:
            self._retirement.cancel()
            self._retirement = None

    def _retire(self) -> None:
        if self._zygote is not None:
            self._zygote.stop()


def _nameless(folder: Path, files: ExitStack) -> int:
    """A file that nobody else can open, gone with its last descriptor; `files` closes ours."""
    try:
        return files.enter_context(tempfile.TemporaryFile(dir=folder, buffering=0)).fileno()
    except OSError as error:
        raise WorkerFailed(f"no file to spill into: {error.strerror}") from error


def _opened(path: Path, files: ExitStack) -> int:
    """A read-only descriptor that `files` closes. Follows no link in the last place: stored files are none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise WorkerFailed(f"a file of the job cannot be read: {error.strerror}") from error
    files.callback(os.close, descriptor)
    return descriptor
