"""The system calls that a job may make, as a BPF filter: what is not listed is refused.

A list of what is allowed, not of what is dangerous: a call that a later kernel adds is refused
here from its first day. After the start of its job a seat only computes, in memory that it has
and on one connected descriptor, so the list holds nothing that opens, names or creates anything.
A seat with a GPU may also make those requests (ioctl) that NVIDIA's driver numbers as its own.

Source: seccomp(2), `linux/seccomp.h`, `linux/filter.h`; numbers from `asm/unistd_64.h` (x86_64)
and `asm-generic/unistd.h` (aarch64).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

LOAD, MASK, JUMP_EQUAL, JUMP_ANY_BIT, RETURN = 0x20, 0x54, 0x15, 0x45, 0x06
ALLOW, KILL_PROCESS, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16  # offsets in struct seccomp_data
SET_MODE_FILTER, ACTION_AVAILABLE = 1, 2
EVERY_THREAD = 1  # SECCOMP_FILTER_FLAG_TSYNC
CLONE_THREAD, LIMIT_CPU = 0x10000, 0

ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

# name: numbers on x86_64 and aarch64; None where the architecture lacks the call.
FREELY: dict[str, tuple[int | None, int | None]] = {
    # the one descriptor
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66),
    "close": (3, 57), "fstat": (5, 80), "lseek": (8, 62), "poll": (7, None), "ppoll": (271, 73),
    # memory
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214),
    "mremap": (25, 216), "madvise": (28, 233), "membarrier": (324, 283),
    # threads and their signals
    "futex": (202, 98), "sched_yield": (24, 124), "sched_getaffinity": (204, 123),
    "set_robust_list": (273, 99), "set_tid_address": (218, 96), "rseq": (334, 293),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    # time
    "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "gettimeofday": (96, 169), "time": (201, None), "restart_syscall": (219, 128),
    # what it is, and the end
    "getpid": (39, 172), "gettid": (186, 178), "getuid": (102, 174), "geteuid": (107, 175), "getcpu": (309, 168),
    "getrusage": (98, 165), "times": (100, 153), "sysinfo": (99, 179), "uname": (63, 160),
    "getrandom": (318, 278), "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip

CLONE, CLONE3, TGKILL, PRLIMIT, PRCTL = (56, 220), (435, 435), (234, 131), (302, 261), (157, 167)
SECCOMP, IOCTL = (317, 277), (16, 29)
KIND_OF_REQUEST = 0xFF00  # asm-generic/ioctl.h: the second byte says whose request it is
OF_THE_DRIVER = (ord("F") << 8, 0)  # NV_IOCTL_MAGIC of nvidia.ko; nvidia-uvm.ko counts from 0
NAME_A_THREAD = 15  # PR_SET_NAME


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def supported() -> bool:
    """Whether this kernel and architecture take the filter. Changes nothing."""
    if platform.machine() not in ARCHITECTURES:
        return False
    action = ctypes.c_uint32(KILL_PROCESS)
    return _seccomp(ACTION_AVAILABLE, 0, ctypes.byref(action)) == 0


def confine(gpu: bool = False) -> None:
    """Put the filter over every thread of this process, for good. With a `gpu` its driver may be asked.

    Raises:
        OSError: the kernel refused it.
    """
    filter_ = program(platform.machine(), os.getpid(), gpu)
    if _seccomp(SET_MODE_FILTER, EVERY_THREAD, ctypes.byref(_Program(len(filter_) // 8, filter_))) != 0:
        raise OSError(ctypes.get_errno(), "seccomp refused the filter")


def program(machine: str, pid: int, gpu: bool = False) -> bytes:
    """The filter for one architecture and process, as `struct sock_filter` entries of 8 bytes."""
    token, column = ARCHITECTURES[machine]
    freely = [number for numbers in FREELY.values() if (number := numbers[column]) is not None]
    return b"".join(
        (
            _step(LOAD, ARCHITECTURE_AT),
            _step(JUMP_EQUAL, token, 1, 0),
            _step(RETURN, KILL_PROCESS),  # a 32-bit entry has other numbers
            _step(LOAD, NUMBER_AT),
            *(_allow(number) for number in freely),
            _only_if(CLONE[column], 0, JUMP_ANY_BIT, CLONE_THREAD),  # a thread, never a process
            _only_if(TGKILL[column], 0, JUMP_EQUAL, pid),  # abort() signals itself
            _only_if_own_cpu(PRLIMIT[column]),
            _only_if(PRCTL[column], 0, JUMP_EQUAL, NAME_A_THREAD),
            _only_requests_of_the_driver(IOCTL[column]) if gpu else b"",
            _answer(CLONE3[column], errno.ENOSYS),  # its flags lie in memory, unseen here; libc falls back to clone
            _step(RETURN, REFUSE | errno.EPERM),
        )
    )


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _allow(number: int) -> bytes:
    return _step(JUMP_EQUAL, number, 0, 1) + _step(RETURN, ALLOW)


def _answer(number: int, error: int) -> bytes:
    return _step(JUMP_EQUAL, number, 0, 1) + _step(RETURN, REFUSE | error)


def _only_if(number: int, argument: int, comparison: int, value: int) -> bytes:
    return b"".join(
        (
            _step(JUMP_EQUAL, number, 0, 4),
            _step(LOAD, ARGUMENTS_AT + 8 * argument),
            _step(comparison, value, 0, 1),
            _step(RETURN, ALLOW),
            _step(RETURN, REFUSE | errno.EPERM),
        )
    )


def _only_if_own_cpu(number: int) -> bytes:
    """prlimit64 on this process, and of processor seconds only: the other limits stay as they are."""
    return b"".join(
        (
            _step(JUMP_EQUAL, number, 0, 6),
            _step(LOAD, ARGUMENTS_AT),
            _step(JUMP_EQUAL, 0, 0, 3),
            _step(LOAD, ARGUMENTS_AT + 8),
            _step(JUMP_EQUAL, LIMIT_CPU, 0, 1),
            _step(RETURN, ALLOW),
            _step(RETURN, REFUSE | errno.EPERM),
        )
    )


def _only_requests_of_the_driver(number: int) -> bytes:
    """ioctl with requests of NVIDIA's driver: none of terminals (TIOCSTI), sockets (SIOC...) or files."""
    return b"".join(
        (
            _step(JUMP_EQUAL, number, 0, 6),
            _step(LOAD, ARGUMENTS_AT + 8),
            _step(MASK, KIND_OF_REQUEST),
            _step(JUMP_EQUAL, OF_THE_DRIVER[0], 1, 0),
            _step(JUMP_EQUAL, OF_THE_DRIVER[1], 0, 1),
            _step(RETURN, ALLOW),
            _step(RETURN, REFUSE | errno.EPERM),
        )
    )


def _seccomp(operation: int, flags: int, argument: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    number = SECCOMP[ARCHITECTURES[platform.machine()][1]]
    return int(libc.syscall(number, operation, flags, argument))
