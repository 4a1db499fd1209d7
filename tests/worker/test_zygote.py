"""The process that forks: it ends with whoever started it, and so does all that it forked."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from grid.worker.launch import how_it_ended
from tests.worker.errands import has_ended

DAEMON = """
import asyncio, pathlib, sys
from tests.worker.errands import Errands, errand_engine

async def live() -> None:
    engine = errand_engine(pathlib.Path(sys.argv[1]))
    seat = await engine.open(Errands())
    await seat.call("linger", lambda _: print(engine.zygote_pid, seat.pid, flush=True), seconds=60)

asyncio.run(live())
"""
LOADED = "import sys; from grid.worker import engine; print(sorted({'numpy', 'torch'} & set(sys.modules)))"


async def test_a_killed_daemon_takes_zygote_and_busy_seat_with_it(tmp_path: Path) -> None:
    daemon = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DAEMON, str(tmp_path), stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert daemon.stdout is not None
    zygote, seat = map(int, (await daemon.stdout.readline()).split())
    os.kill(daemon.pid, signal.SIGKILL)

    await has_ended(zygote)
    await has_ended(seat)
    await daemon.wait()


async def test_what_the_daemon_imports_loads_no_numpy() -> None:
    probe = await asyncio.create_subprocess_exec(sys.executable, "-c", LOADED, stdout=subprocess.PIPE)

    assert (await probe.communicate())[0].strip() == b"[]"


def test_an_end_is_told_in_words() -> None:
    assert how_it_ended(3 << 8) == "the job's process ended by itself with status 3"
    assert how_it_ended(signal.SIGXCPU) == "the job used more processor time than its limit"
    assert how_it_ended(signal.SIGSEGV) == "the job's process was ended by SIGSEGV"
