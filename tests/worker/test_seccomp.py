"""The filter, run by a small BPF machine, so that both architectures are tested on either."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.worker import seccomp

PID = 4242
REFUSED = seccomp.REFUSE | errno.EPERM
NEVER = {  # x86_64, aarch64
    "open": (2, None), "openat": (257, 56), "openat2": (437, 437), "execve": (59, 221), "execveat": (322, 281),
    "fork": (57, None), "vfork": (58, None), "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203),
    "bind": (49, 200), "sendmsg": (46, 211), "recvmsg": (47, 212), "ptrace": (101, 117), "bpf": (321, 280),
    "io_uring_setup": (425, 425), "keyctl": (250, 219), "mount": (165, 40), "unshare": (272, 97), "setns": (308, 268),
    "kill": (62, 129), "tkill": (200, 130), "memfd_create": (319, 279), "process_vm_readv": (310, 270),
    "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "perf_event_open": (298, 241), "ioctl": (16, 29),
    "userfaultfd": (323, 282), "setrlimit": (160, 164), "shmget": (29, 194), "dup": (32, 23), "fcntl": (72, 25),
}  # fmt: skip


def verdict(machine: str, number: int, *arguments: int, architecture: int | None = None, gpu: bool = False) -> int:
    """What the kernel would answer to this call."""
    token = seccomp.ARCHITECTURES[machine][0] if architecture is None else architecture
    data = struct.pack("=IIQ6Q", number, token, 0, *(arguments + (0,) * 6)[:6])
    steps = list(struct.iter_unpack("=HBBI", seccomp.program(machine, PID, gpu)))
    place, held = 0, 0
    while True:
        code, if_true, if_false, value = steps[place]
        place += 1
        if code == seccomp.LOAD:
            held = struct.unpack_from("=I", data, value)[0]
        elif code == seccomp.MASK:
            held &= value
        elif code == seccomp.RETURN:
            return int(value)
        else:
            holds = held == value if code == seccomp.JUMP_EQUAL else bool(held & value)
            place += if_true if holds else if_false


both = pytest.mark.parametrize(("machine", "column"), [("x86_64", 0), ("aarch64", 1)])


@both
def test_what_computes_is_allowed(machine: str, column: int) -> None:
    for numbers in seccomp.FREELY.values():
        if (number := numbers[column]) is not None:
            assert verdict(machine, number) == seccomp.ALLOW


@both
def test_what_opens_names_creates_or_reaches_out_is_refused(machine: str, column: int) -> None:
    for name, numbers in NEVER.items():
        if (number := numbers[column]) is not None:
            assert verdict(machine, number) == REFUSED, name


@both
def test_a_thread_may_start_but_no_process(machine: str, column: int) -> None:
    clone, clone3 = seccomp.CLONE[column], seccomp.CLONE3[column]

    assert verdict(machine, clone, 0x3D0F00) == seccomp.ALLOW  # what pthread_create asks
    assert verdict(machine, clone, 0x1200011) == REFUSED  # what fork asks
    assert verdict(machine, clone3) == seccomp.REFUSE | errno.ENOSYS


@both
def test_a_process_may_signal_only_itself(machine: str, column: int) -> None:
    assert verdict(machine, seccomp.TGKILL[column], PID, PID, 6) == seccomp.ALLOW
    assert verdict(machine, seccomp.TGKILL[column], 1, 1, 9) == REFUSED


@both
def test_only_the_own_processor_limit_may_change(machine: str, column: int) -> None:
    prlimit = seccomp.PRLIMIT[column]

    assert verdict(machine, prlimit, 0, 0) == seccomp.ALLOW
    assert verdict(machine, prlimit, 0, 9) == REFUSED
    assert verdict(machine, prlimit, 1, 0) == REFUSED


@both
def test_calls_by_the_numbers_of_another_architecture_end_the_process(machine: str, column: int) -> None:
    assert verdict(machine, 0, architecture=0x40000003) == seccomp.KILL_PROCESS


@given(
    st.sampled_from(["x86_64", "aarch64"]), st.integers(462, 2**32 - 1), st.lists(st.integers(0, 2**64 - 1), max_size=6)
)
def test_a_call_that_a_later_kernel_adds_is_refused(machine: str, number: int, arguments: list[int]) -> None:
    assert verdict(machine, number, *arguments) == REFUSED


@both
def test_a_seat_with_a_gpu_may_ask_its_driver_and_nothing_else_more(machine: str, column: int) -> None:
    ioctl = seccomp.IOCTL[column]
    allocate, register, raw = 0xC020462A, 0xC00446C9, (0x30000001, 75)  # nvidia.ko; nvidia-uvm.ko

    for request in (allocate, register, *raw):
        assert verdict(machine, ioctl, 5, request, gpu=True) == seccomp.ALLOW
        assert verdict(machine, ioctl, 5, request) == REFUSED
    for request in (0x5412, 0x8912, 0x5421, 0x40049409, 0xC0502100):  # a terminal, a network, a file, a clone, a filter
        assert verdict(machine, ioctl, 5, request, gpu=True) == REFUSED
    for name, numbers in NEVER.items():
        if name != "ioctl" and (number := numbers[column]) is not None:
            assert verdict(machine, number, gpu=True) == REFUSED, name
