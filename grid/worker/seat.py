"""A seat: the forked child that enters the sandbox, holds one job and serves calls on it.

Everything that the job may see comes in before the sandbox closes: its files as private memory,
its inbox and outbox, one connected descriptor. What the job itself reads in them is parsed inside.
"""

from __future__ import annotations

import fcntl
import gc
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import msgspec

from grid.wire.problems import GpuFailed, GridError, SandboxMissing, WorkerFailed, to_problem
from grid.worker import sandbox
from grid.worker.channel import Call, Fork, GpuShare, Opening, Said, listen, tell
from grid.worker.memory import keep_freed, map_file, map_shared
from grid.worker.port import Limits, Progress

Verb = Callable[..., dict[str, Any]]

OUT_OF_MEMORY = ("can't allocate memory", "Cannot allocate memory", "can't start new thread")


@dataclass(frozen=True)
class Desk:
    """What lies before a job: its files by name, shared memory in and out, its limits, and who hears of progress.

    `state` is shared memory that job and daemon both read and write, `spill` a file that the job may fill.
    `device` is what torch calls the device to compute on.
    """

    files: Mapping[str, memoryview]
    inbox: memoryview
    outbox: memoryview
    limits: Limits
    progress: Progress
    state: memoryview = field(default_factory=lambda: memoryview(bytearray()))
    spill: int | None = None
    device: str = "cpu"


Job = Callable[..., Mapping[str, Verb]]
"""A job takes its `Desk` and its arguments and gives the verbs it answers to."""


@dataclass(frozen=True)
class Table:
    """The jobs that a zygote offers.

    `settle`, where there is one, is called before the sandbox closes: it opens the GPU of a seat, or makes it a seat
    that has none. It may start threads, and raises GpuFailed.
    """

    jobs: Mapping[str, Job]
    settle: Callable[[GpuShare | None], None] | None = None


def serve(descriptors: list[int], order: Fork, table: Table) -> NoReturn:
    """Be the seat until the daemon closes the channel. Never returns into the zygote's code."""
    try:
        channel, *memories = descriptors[:4]
        spill, files = descriptors[4 : 4 + order.spills], descriptors[4 + order.spills :]
        inbox, outbox, state = map(map_shared, memories)
        mapped = dict(zip(order.files, map(map_file, files), strict=True))
        channel, *spill = _keep_only(channel, *spill)
        opening = _opening(channel)
        progress: Progress = lambda body: tell(channel, Said("progress", body))  # noqa: E731
        device = "cpu" if opening.gpu is None else "cuda"
        desk = Desk(mapped, inbox, outbox, opening.limits, progress, state, next(iter(spill), None), device)
        gc.enable()
        keep_freed()
        tell(channel, _confined(opening, table))
        _answer_calls(channel, _Bench(table.jobs[opening.job], desk, opening.arguments), opening.limits)
    except BaseException:  # noqa: BLE001 - whatever it was, the fork must not run on as a second zygote
        os._exit(70)
    os._exit(0)


def _confined(opening: Opening, table: Table) -> Said:
    """Open the device and enter the sandbox. Where either fails, the daemon's side ends the seat."""
    try:
        if table.settle is not None:
            sandbox.before_gpu(opening.layers)
            table.settle(opening.gpu)
        elif opening.gpu is not None:
            raise GpuFailed("the jobs that are loaded here cannot use a GPU")
        stands = sandbox.enter(opening.limits, opening.layers, gpu=opening.gpu is not None)
        return Said("result", {"isolation": str(stands)})
    except GpuFailed as error:
        return Said("problem", to_problem(error))
    except OSError as error:
        return Said("problem", to_problem(SandboxMissing(f"the kernel refused a layer: {error}")))


class _Bench:
    """Makes the job at its first call, so that a job that cannot start is a problem of that call."""

    def __init__(self, job: Job, desk: Desk, arguments: dict[str, Any]) -> None:
        self._make: Callable[[], Mapping[str, Verb]] = lambda: job(desk, **arguments)
        self._verbs: Mapping[str, Verb] | None = None

    def run(self, call: Call) -> dict[str, Any]:
        if self._verbs is None:
            self._verbs = self._make()
        if call.verb not in self._verbs:
            raise WorkerFailed(f"this job knows no {call.verb!r}")
        return self._verbs[call.verb](**call.arguments)


def _answer_calls(channel: int, bench: _Bench, limits: Limits) -> None:
    while (body := listen(channel)) is not None:
        sandbox.allow_cpu(limits.cpu)
        tell(channel, _answer(bench, msgspec.msgpack.decode(body, type=Call), limits))


def _answer(bench: _Bench, call: Call, limits: Limits) -> Said:
    try:
        return Said("result", bench.run(call))
    except GridError as error:
        return Said("problem", to_problem(error))
    except Exception as error:  # noqa: BLE001 - a job may fail in any way; the caller hears where
        return Said("problem", to_problem(WorkerFailed(_words(error, limits))))


def _words(error: Exception, limits: Limits) -> str:
    """What went wrong and where, without the message: that may quote the data."""
    if isinstance(error, MemoryError) or any(sign in str(error) for sign in OUT_OF_MEMORY):
        return f"the job needs more than its limit of {limits.memory} bytes of memory"
    steps = list(traceback.walk_tb(error.__traceback__))
    code, line = steps[-1][0].f_code, steps[-1][1]
    return f"{type(error).__name__} in {os.path.basename(code.co_filename)}, line {line}"  # noqa: PTH119 - only text


def _opening(channel: int) -> Opening:
    body = listen(channel)
    if body is None:
        os._exit(0)  # the daemon thought better of it
    return msgspec.msgpack.decode(body, type=Opening)


def _keep_only(*kept: int) -> list[int]:
    """Close every descriptor but these, which are numbered from 3 on; what the job prints goes nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)
    aside = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 3 + len(kept)) for descriptor in kept]
    numbers = [os.dup2(descriptor, 3 + place) for place, descriptor in enumerate(aside)]
    os.closerange(3 + len(kept), os.sysconf("SC_OPEN_MAX"))
    sys.stdin = sys.stdout = sys.stderr = None
    return numbers
