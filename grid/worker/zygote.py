"""The zygote: a process that has loaded what jobs need, and forks a seat in milliseconds.

    python -m grid.worker.zygote --control FD --preload numpy|linear|torch --jobs MODULE

It has one thread, reads orders of the daemon only, and never hears what a seat says. It ends, and
its seats with it, when the daemon does.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import select
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from grid import faults
from grid.worker import sandbox
from grid.worker.channel import PACKET_CAP, Ended, Event, Fork, Kill, Order, Ready, Started
from grid.worker.seat import Table, serve

DESCRIPTORS_CAP = 16


@dataclass(frozen=True)
class _Child:
    seat: int
    pid: int
    handle: int  # a pidfd: readable when the child has ended


class Zygote:
    """Obeys the orders that come over `control`, and reports how its children end."""

    def __init__(self, control: socket.socket, table: Table) -> None:
        self._control, self._table = control, table
        self._children: dict[int, _Child] = {}
        self._killed: set[int] = set()  # seats, at the daemon's word
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def run(self) -> None:
        """Serve until the daemon closes the control socket; then end every seat."""
        self._say(Ready())
        while self._step():
            pass
        for child in self._children.values():
            os.kill(child.pid, signal.SIGKILL)

    def _step(self) -> bool:
        for handle, _ in self._poll.poll():
            if handle != self._control.fileno():
                self._bury(handle)
            elif not self._obey():
                return False
        return True

    def _obey(self) -> bool:
        packet, descriptors, _, _ = socket.recv_fds(self._control, PACKET_CAP, DESCRIPTORS_CAP)
        if not packet:
            return False
        order = msgspec.msgpack.decode(packet, type=Order)
        if isinstance(order, Fork):
            self._fork(order, descriptors)
        else:
            self._kill(order)
        return True

    def _fork(self, order: Fork, descriptors: list[int]) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            sandbox.die_with_parent(parent)
            serve(descriptors, order, self._table)
        for descriptor in descriptors:
            os.close(descriptor)
        handle = os.pidfd_open(pid)
        self._children[handle] = _Child(order.seat, pid, handle)
        self._poll.register(handle, select.POLLIN)
        self._say(Started(order.seat, pid))

    def _kill(self, order: Kill) -> None:
        for child in self._children.values():
            if child.seat == order.seat:  # not buried yet, so the pid is still its own
                self._killed.add(child.seat)
                os.kill(child.pid, signal.SIGKILL)

    def _bury(self, handle: int) -> None:
        child = self._children.pop(handle)
        self._poll.unregister(handle)
        os.close(handle)
        _, status = os.waitpid(child.pid, 0)
        if os.WIFSIGNALED(status) and child.seat not in self._killed:
            faults.disarm()
        self._killed.discard(child.seat)
        self._say(Ended(child.seat, child.pid, status))

    def _say(self, event: Event) -> None:
        try:
            self._control.send(msgspec.msgpack.encode(event))
        except (BrokenPipeError, ConnectionResetError):
            return  # the daemon has gone; the next read says so


def main(arguments: Sequence[str] | None = None) -> None:
    """Load, freeze, serve."""
    parser = argparse.ArgumentParser(prog="grid.worker.zygote")
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--preload", choices=("numpy", "linear", "torch"), required=True)
    parser.add_argument("--jobs", required=True)
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the daemon's to answer
    gc.disable()  # what is loaded stays; looking through it again and again costs a tenth of the start
    table: Table = importlib.import_module(asked.jobs).load(asked.preload)
    threads = sum(1 for _ in Path("/proc/self/task").iterdir())
    if threads != 1:
        raise SystemExit(f"{threads} threads after the preload: a fork would copy their locks, not them")
    gc.freeze()  # a collection in a seat must not touch, and so copy, what is shared
    Zygote(socket.socket(fileno=asked.control), table).run()


if __name__ == "__main__":
    main()
