"""The daemon's end of one zygote: starts the process, orders seats from it, hears how they ended."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

import grid
from grid import faults
from grid.wire.problems import WorkerFailed
from grid.worker.channel import PACKET_CAP, Ended, Event, Fork, Kill, Order, Ready, Started

START_DEADLINE = 60.0  # seconds; a cold import of torch takes 6 on a loaded machine
STOP_DEADLINE = 5.0
INHERITED = (faults.SETTING, "PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
ZYGOTE_DIED = "the process that forks workers has died"


class ZygoteProcess:
    """One running zygote. Ends when `stop` is called or this process does."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._process, self._control = process, control
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._ends: dict[int, asyncio.Future[str]] = {}
        self.pids: dict[int, int] = {}
        self._handle = os.pidfd_open(process.pid)
        self._loop.add_reader(control.fileno(), self._hear)
        self._loop.add_reader(self._handle, self._reap)

    @classmethod
    async def start(cls, preload: str, jobs: str, scratch: Path) -> ZygoteProcess:
        """Start a zygote and wait until it has loaded `preload` and the `jobs` table.

        Raises:
            WorkerFailed: it ended, or took too long.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = _spawn(theirs.fileno(), preload, jobs, scratch)
        ours.setblocking(False)
        zygote = cls(process, ours)
        try:
            async with asyncio.timeout(START_DEADLINE):
                await asyncio.shield(zygote._ready)  # a caller who goes away cancels only its own waiting
        except TimeoutError:
            raise WorkerFailed(f"the worker process was not ready after {START_DEADLINE:g} s") from None
        finally:
            if not zygote.ready:
                process.kill()
                await zygote.stopped()  # killed, it is gone in no time
        return zygote

    @property
    def ready(self) -> bool:
        """Whether it has loaded everything and still runs."""
        return self._control.fileno() >= 0 and self._ready.done() and not self._ready.exception()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def fork(self, order: Fork, descriptors: Sequence[int]) -> asyncio.Future[str]:
        """Order a seat; the future tells, in words, how it ended."""
        self._order(order, descriptors)
        self._ends[order.seat] = self._loop.create_future()
        return self._ends[order.seat]

    def kill(self, seat: int) -> None:
        """End a seat at once. One that has ended already is none of our business."""
        if seat in self._ends and self.ready:
            with suppress(WorkerFailed):  # the zygote has died, and its seats with it
                self._order(Kill(seat))

    def stop(self) -> None:
        """Hang up: the zygote kills its seats and ends."""
        if self._control.fileno() >= 0:
            self._loop.remove_reader(self._control.fileno())
            self._control.close()
        if not self._ready.done():
            self._ready.set_exception(WorkerFailed("the worker process ended before it was ready; its log says why"))
            self._ready.exception()  # seen, even when nobody waits any more
        while self._ends:
            _settle(self._ends.popitem()[1], ZYGOTE_DIED)

    async def stopped(self) -> None:
        """Stop, and wait until the process is gone; after a few seconds it is made to go."""
        self.stop()
        try:
            async with asyncio.timeout(STOP_DEADLINE):
                await asyncio.shield(self._over)
        except TimeoutError:
            self._process.kill()
            await self._over

    def _order(self, order: Order, descriptors: Sequence[int] = ()) -> None:
        try:
            socket.send_fds(self._control, [msgspec.msgpack.encode(order)], list(descriptors))
        except OSError as error:
            raise WorkerFailed(ZYGOTE_DIED) from error

    def _hear(self) -> None:
        try:
            packet = self._control.recv(PACKET_CAP)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self.stop()
            return
        event: Event = msgspec.msgpack.decode(packet, type=Event)
        if isinstance(event, Ready):
            self._ready.set_result(None)
        elif isinstance(event, Started):
            self.pids[event.seat] = event.pid
        else:
            self._seat_ended(event)

    def _seat_ended(self, event: Ended) -> None:
        self.pids.pop(event.seat, None)
        _settle(self._ends.pop(event.seat), how_it_ended(event.status))

    def _reap(self) -> None:
        self._loop.remove_reader(self._handle)
        os.close(self._handle)
        self._process.wait()
        self.stop()
        self._over.set_result(None)


def how_it_ended(status: int) -> str:
    """What wait(2) said, in words."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"the job's process ended by itself with status {code}"
    if -code == signal.SIGXCPU:
        return "the job used more processor time than its limit"
    if -code == signal.SIGKILL:
        return "the job's process was killed (SIGKILL), by hand or for lack of memory"
    return f"the job's process was ended by {signal.Signals(-code).name}"


def _settle(end: asyncio.Future[str], reason: str) -> None:
    if not end.done():
        end.set_result(reason)


def _spawn(control: int, preload: str, jobs: str, scratch: Path) -> subprocess.Popen[bytes]:
    """Start the process with nothing of ours: no secrets from the environment, no descriptor but one."""
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ} | ONE_THREAD
    environment |= {"PYTHONPATH": str(Path(grid.__file__).parents[1]), "TMPDIR": str(scratch), "HOME": str(scratch)}
    return subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-m",
            "grid.worker.zygote",
            f"--control={control}",
            f"--preload={preload}",
            f"--jobs={jobs}",
        ],
        pass_fds=(control,),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        cwd=scratch,
        env=environment,
        start_new_session=True,
    )
