"""What a job cannot do, tried by a real job in a real seat."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from grid.wire.problems import SandboxMissing, WorkerFailed
from grid.worker.engine import Isolation, IsolationPolicy, LocalSeat, capabilities
from tests.worker.errands import MIB, Errands, errand_engine

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not capabilities().complete, reason=f"this kernel offers {capabilities()}"),
]

FILES = ["read a file", "list a folder", "write a file", "remove a file", "map a device", "look at another process"]
NETWORK = ["connect", "listen"]
CALLS = [
    "connect to a unix socket", "make a socket pair", "make a datagram socket", "start a program", "start a child",
    "start a child by subprocess", "kill", "send a signal 0", "make a memory file", "change a mode", "look at a file",
    "become untraced", "read foreign memory", "make a ring", "load a program into the kernel",
    "leave for another namespace", "take a limit off", "limit another", "call by 32-bit numbers",
]  # fmt: skip


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def seat(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalSeat]:
    engine = errand_engine(tmp_path_factory.mktemp("scratch"))
    yield await engine.open(Errands())
    await engine.close()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def seat_with_landlock_alone(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalSeat]:
    only = Isolation(capabilities().landlock, seccomp=False, rlimits=False)
    engine = errand_engine(tmp_path_factory.mktemp("scratch"), policy=IsolationPolicy.PREFER, isolation=only)
    yield await engine.open(Errands())
    await engine.close()


async def tried(seat: LocalSeat, what: str, folder: Path) -> object:
    target = folder / "kept"
    target.write_bytes(b"private")
    place = folder if what == "list a folder" else target
    with socket.create_server(("127.0.0.1", 0)) as server:
        answer = await seat.call("attempt", what=what, target=str(place), number=_number(what, server))
    assert target.read_bytes() == b"private"
    return answer["refused"]


def _number(what: str, server: socket.socket) -> int:
    return int(server.getsockname()[1]) if what == "connect" else os.getpid()


@pytest.mark.parametrize("what", [*FILES, *NETWORK, *CALLS])
async def test_a_job_may_not(seat: LocalSeat, what: str, tmp_path: Path) -> None:
    assert await tried(seat, what, tmp_path) == "PermissionError"


@pytest.mark.parametrize("what", [*FILES, *NETWORK, "kill", "send a signal 0"])
async def test_landlock_alone_already_refuses(seat_with_landlock_alone: LocalSeat, what: str, tmp_path: Path) -> None:
    assert await tried(seat_with_landlock_alone, what, tmp_path) == "PermissionError"


async def test_threads_still_work(seat: LocalSeat) -> None:
    assert await seat.call("threads", number=4) == {"done": 4}


async def test_an_allocation_beyond_the_limit_is_refused_and_the_seat_serves_on(seat: LocalSeat) -> None:
    with pytest.raises(WorkerFailed, match="limit of 536870912 bytes of memory"):
        await seat.call("allocate", size=20 << 30)

    assert await seat.call("allocate", size=64 * MIB) == {"held": 64 * MIB}


async def test_a_job_sees_none_of_the_daemons_environment(seat: LocalSeat) -> None:
    environment = (await seat.call("hello"))["environment"]

    assert set(environment) <= {
        "PATH", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH", "TMPDIR", "HOME",
        "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
    }  # fmt: skip


async def test_a_job_has_no_descriptor_but_its_channel(seat: LocalSeat) -> None:
    assert (await seat.call("descriptors"))["open"] == [0, 1, 2, 3]


async def test_a_job_that_may_spill_has_one_file_more(tmp_path: Path) -> None:
    engine = errand_engine(tmp_path)
    seat = await engine.open(Errands(spill_bytes=MIB, state_bytes=8))

    assert (await seat.call("descriptors"))["open"] == [0, 1, 2, 3, 4]
    assert bytes(seat.state) == bytes(8)
    await engine.close()


async def test_the_limits_alone_refuse_to_fill_the_disk(tmp_path: Path) -> None:
    only = Isolation(landlock=0, seccomp=False, rlimits=True)
    engine = errand_engine(tmp_path, policy=IsolationPolicy.PREFER, isolation=only)
    seat = await engine.open(Errands())
    target = tmp_path / "large"

    assert (await seat.call("attempt", what="write a file", target=str(target)))["refused"] == "OSError"
    assert target.stat().st_size == 0
    await engine.close()


async def test_processor_seconds_are_counted_from_the_call(seat: LocalSeat) -> None:
    assert 30 <= (await seat.call("processor_limit"))["seconds"] <= 30 + 2


async def test_policy_require_refuses_a_machine_without_landlock(tmp_path: Path) -> None:
    engine = errand_engine(tmp_path, isolation=Isolation(landlock=0, seccomp=True, rlimits=True))

    with pytest.raises(SandboxMissing, match=r"here there is: seccomp\+rlimits"):
        await engine.open(Errands())


async def test_policy_prefer_runs_with_what_there_is_and_says_so(tmp_path: Path) -> None:
    engine = errand_engine(tmp_path, policy=IsolationPolicy.PREFER, isolation=Isolation())
    seat = await engine.open(Errands())

    assert (await seat.call("hello"))["greeting"] == "hello"
    assert engine.status()["isolation"] == "none"
    assert engine.status()["policy"] == "prefer"
    await engine.close()


async def test_isolation_says_which_layers_stand() -> None:
    assert str(Isolation(7, seccomp=True, rlimits=True)) == "landlock7+seccomp+rlimits"
    assert not Isolation(7, seccomp=False, rlimits=True).complete
