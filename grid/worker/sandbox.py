"""What a job cannot do: limits, Landlock and seccomp around one process, entered for good.

Three layers. Landlock and seccomp each refuse files and TCP on their own, so that a hole in one is not a way out:

* limits on memory, processor, file size and descriptors, no capabilities, no core dump, no ptrace;
* Landlock: no path may be opened for anything, no TCP, no signal and no abstract socket to outside;
* seccomp: only the calls of `seccomp.FREELY`, so no exec, no new process, no socket of any family.

A process with a GPU opens it first, which starts threads of CUDA's; `before_gpu` gives them what of this a thread
inherits, and seccomp reaches them all. They have no Landlock rules about files, so there seccomp stands alone.

ctypes only. Source: landlock(7), prctl(2), seccomp(2), setrlimit(2).
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from grid.wire.problems import SandboxMissing
from grid.worker import seccomp
from grid.worker.port import Limits

DIE_WITH_PARENT, SET_DUMPABLE, NO_NEW_PRIVILEGES = 1, 4, 38
LANDLOCK_CREATE, LANDLOCK_RESTRICT, LANDLOCK_VERSION = 444, 446, 1
NET_BIND_AND_CONNECT, SCOPE_SOCKETS_AND_SIGNALS = 0b11, 0b11
CAPABILITIES_V3 = 0x20080522
NETWORK_SINCE = 4  # the first Landlock ABI with rights on TCP
SIZE, DATA = 0, 5  # columns of /proc/self/statm


class IsolationPolicy(Enum):
    """What a node does where the kernel lacks a layer."""

    REQUIRE = "require"  # run no job
    PREFER = "prefer"  # run with what there is, and say so


@dataclass(frozen=True)
class Isolation:
    """The layers that stand around a job. `landlock` is the kernel's ABI version, 0 if absent."""

    landlock: int = 0
    seccomp: bool = False
    rlimits: bool = False

    @property
    def complete(self) -> bool:
        """Whether every layer stands."""
        return self.landlock >= 1 and self.seccomp and self.rlimits

    def __str__(self) -> str:
        """As the node shows it, such as `landlock7+seccomp+rlimits`, or `none`."""
        layers = [f"landlock{self.landlock}"] * (self.landlock > 0) + ["seccomp"] * self.seccomp
        return "+".join(layers + ["rlimits"] * self.rlimits) or "none"


def capabilities() -> Isolation:
    """The layers that this kernel offers. Changes nothing, costs microseconds."""
    if sys.platform != "linux":
        return Isolation()
    return Isolation(max(0, _landlock_version()), seccomp.supported(), True)


def demand(policy: IsolationPolicy, found: Isolation) -> None:
    """Refuse a machine that lacks what `policy` asks.

    Raises:
        SandboxMissing: a layer is missing and the policy requires all.
    """
    if policy is IsolationPolicy.REQUIRE and not found.complete:
        raise SandboxMissing(f"this node isolates its jobs with Landlock and seccomp; here there is: {found}")


def before_gpu(layers: Isolation) -> None:
    """What threads that CUDA starts shall inherit: no capability, no TCP, no signal to outside.

    Raises:
        OSError: the kernel refused a layer that it had offered.
    """
    _shed_privileges()
    if layers.landlock >= NETWORK_SINCE:
        _landlock(layers.landlock, files=False)


def enter(limits: Limits, layers: Isolation, gpu: bool = False) -> Isolation:
    """Confine this process, and all it will ever be, to `layers`; returns what now stands.

    Call after everything that the job needs is mapped or connected, with one thread only unless it has a `gpu`.

    Raises:
        OSError: the kernel refused a layer that it had offered.
    """
    _shed_privileges()
    _prctl(SET_DUMPABLE, 0)
    if layers.rlimits:
        limit(limits, gpu)
    if layers.landlock:
        _landlock(layers.landlock)
    if layers.seccomp:
        seccomp.confine(gpu)
    return layers


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when the one that forked it ends."""
    _prctl(DIE_WITH_PARENT, 9)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


def limit(limits: Limits, gpu: bool = False) -> None:
    """Set the limits that hold for the whole job: memory above what is mapped now, file sizes, files, no core.

    CUDA reserves address space by the terabyte, so with a `gpu` what counts is private memory that can be written to;
    and it has its device files open, above which there is room for none but the usual number.
    """
    kind, column = (resource.RLIMIT_DATA, DATA) if gpu else (resource.RLIMIT_AS, SIZE)
    memory = _pages(column) + limits.memory
    resource.setrlimit(kind, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.disk, limits.disk))
    files = limits.files + (_open_files() if gpu else 0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))


def allow_cpu(seconds: float) -> None:
    """Give this process `seconds` of processor time from now, in whole seconds; after them SIGXCPU ends it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _pages(column: int) -> int:
    """Bytes of this process: its address space, as RLIMIT_AS counts it, or its data and stack, for RLIMIT_DATA."""
    return int(Path("/proc/self/statm").read_bytes().split()[column]) * resource.getpagesize()


def _open_files() -> int:
    return 1 + max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())


def _shed_privileges() -> None:
    """No new privileges by exec, none of root's powers if it is root."""
    _prctl(NO_NEW_PRIVILEGES, 1)
    header, nothing = (ctypes.c_uint32 * 2)(CAPABILITIES_V3, 0), (ctypes.c_uint32 * 6)()
    _checked(_libc().capset(header, nothing), "capset")


def _landlock(version: int, files: bool = True) -> None:
    """Handle every right there is, or all but those on files, and grant none."""
    rights = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1 if files else 0
    network = NET_BIND_AND_CONNECT if version >= NETWORK_SINCE else 0
    scopes = SCOPE_SOCKETS_AND_SIGNALS if version >= 6 else 0
    rules = (ctypes.c_uint64 * 3)(rights, network, scopes)
    size = 8 if version < NETWORK_SINCE else 16 if version < 6 else 24
    ruleset = _checked(_libc().syscall(LANDLOCK_CREATE, rules, ctypes.c_size_t(size), 0), "landlock_create_ruleset")
    try:
        _checked(_libc().syscall(LANDLOCK_RESTRICT, ruleset, 0), "landlock_restrict_self")
    finally:
        os.close(ruleset)


def _landlock_version() -> int:
    return int(_libc().syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), LANDLOCK_VERSION))


def _prctl(option: int, value: int) -> None:
    _checked(_libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what} was refused")
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
