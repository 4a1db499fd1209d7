"""A job table for tests: a job that runs small errands, honest and hostile ones. Imported by a zygote."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from grid.wire.problems import PlanRefused
from grid.worker.seat import Desk, Table, Verb


def errands(desk: Desk, greeting: str = "") -> Mapping[str, Verb]:  # noqa: C901 - a list of verbs
    def hello() -> dict[str, Any]:
        return {"greeting": greeting, "pid": os.getpid(), "environment": dict(os.environ)}

    def double() -> dict[str, Any]:
        for place, value in enumerate(desk.inbox):
            desk.outbox[place] = 2 * value % 256
        return {"bytes": len(desk.inbox)}

    def count(to: int) -> dict[str, Any]:
        for number in range(to):
            desk.progress({"step": number})
        return {"counted": to}

    def read_file(name: str) -> dict[str, Any]:
        return {"text": bytes(desk.files[name]).decode()}

    def scribble(name: str) -> dict[str, Any]:
        desk.files[name][:4] = b"gone"
        return read_file(name)

    def linger(seconds: float) -> dict[str, Any]:
        desk.progress({"asleep": True})
        threading.Event().wait(seconds)
        return {}

    def burn() -> dict[str, Any]:
        while True:
            pass

    def allocate(size: int) -> dict[str, Any]:
        return {"held": len(bytearray(size))}

    def refuse() -> dict[str, Any]:
        raise PlanRefused("not this one")

    def fail() -> dict[str, Any]:
        raise ValueError("patient 17 has value 4.2")

    def quit_() -> dict[str, Any]:
        os._exit(3)

    def shout(size: int) -> dict[str, Any]:
        os.write(3, (size).to_bytes(4, "little") + b"\xc1" * min(size, 1000))
        return {}

    def descriptors() -> dict[str, Any]:
        return {"open": [number for number in range(64) if _is_open(number)]}

    def processor_limit() -> dict[str, Any]:
        return {"seconds": resource.getrlimit(resource.RLIMIT_CPU)[0]}

    def threads(number: int) -> dict[str, Any]:
        done: list[int] = []
        workers = [threading.Thread(target=done.append, args=(n,)) for n in range(number)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return {"done": len(done)}

    def attempt(what: str, target: str = "", number: int = 0) -> dict[str, Any]:
        try:
            ATTEMPTS[what](target, number)
        except (OSError, subprocess.SubprocessError) as error:
            return {"refused": type(error).__name__}
        return {"refused": None}

    return {
        "hello": hello, "double": double, "count": count, "read": read_file, "scribble": scribble, "linger": linger,
        "burn": burn, "allocate": allocate, "refuse": refuse, "fail": fail, "quit": quit_, "shout": shout,
        "threads": threads, "descriptors": descriptors, "processor_limit": processor_limit, "attempt": attempt,
    }  # fmt: skip


def _is_open(number: int) -> bool:
    try:
        os.lseek(number, 0, os.SEEK_CUR)
    except OSError as error:
        return error.errno != errno.EBADF
    return True


def _connect(target: str, number: int) -> None:
    with socket.socket(socket.AF_INET) as outward:
        outward.settimeout(2)
        outward.connect(("127.0.0.1", number))


def _listen(target: str, number: int) -> None:
    with socket.socket(socket.AF_INET) as server:
        server.bind(("127.0.0.1", 0))


def _unix(target: str, number: int) -> None:
    with socket.socket(socket.AF_UNIX) as outward:
        outward.connect(target)


def _fork(target: str, number: int) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _system_call(number: int, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *map(ctypes.c_long, arguments)) < 0:
        raise OSError(ctypes.get_errno(), "refused")


ATTEMPTS: dict[str, Callable[[str, int], object]] = {
    "read a file": lambda target, _: Path(target).read_bytes(),
    "list a folder": lambda target, _: list(Path(target).iterdir()),
    "write a file": lambda target, _: Path(target).write_bytes(b"x"),
    "remove a file": lambda target, _: Path(target).unlink(),
    "change a mode": lambda target, _: Path(target).chmod(0o777),
    "look at a file": lambda target, _: Path(target).stat(),
    "look at another process": lambda _, number: Path(f"/proc/{number}/environ").read_bytes(),
    "start a program": lambda _, __: os.execv("/bin/true", ["true"]),
    "start a child": _fork,
    "start a child by subprocess": lambda _, __: subprocess.run(["/bin/true"], check=True),
    "connect": _connect,
    "listen": _listen,
    "connect to a unix socket": _unix,
    "make a socket pair": lambda _, __: socket.socketpair(),
    "make a datagram socket": lambda _, __: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
    "kill": lambda _, number: os.kill(number, 9),
    "send a signal 0": lambda _, number: os.kill(number, 0),
    "make a memory file": lambda _, __: os.memfd_create("x"),
    "become untraced": lambda _, __: _system_call(101, 0, 0, 0, 0),  # ptrace
    "read foreign memory": lambda _, number: _system_call(310, number, 0, 0, 0, 0, 0),
    "make a ring": lambda _, __: _system_call(425, 8, 0),
    "load a program into the kernel": lambda _, __: _system_call(321, 0, 0, 0),
    "leave for another namespace": lambda _, __: _system_call(272, 0x10000000),
    "take a limit off": lambda _, __: _system_call(302, 0, 9, 0, 0),
    "limit another": lambda _, number: _system_call(302, number, 0, 0, 0),
    "call by 32-bit numbers": lambda _, __: _system_call(0x40000000 + 39),
    "map a device": lambda _, __: mmap.mmap(os.open("/dev/zero", os.O_RDWR), 4096),
}


def load(preload: str) -> Table:
    return Table({"errands": errands})
