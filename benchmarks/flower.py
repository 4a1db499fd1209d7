"""Rounds beside flwr's deployment engine, in the same run: nodes x MB of the model.

flwr lives in an environment of its own, `.venv-flwr`, in the pinned versions of `requirements/flwr.txt`; without a
package index its rows are left out. Its telemetry and its check for updates are off. Its nodes return what they were
given plus a constant; ours take a step on 32 rows, seal and prove what they send, and the checkpoint is on disk.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from benchmarks.daemons import scratch
from benchmarks.machine import load
from benchmarks.rounds import HUGE, LARGE, SMALL, floor_rounds, grid_rounds, model_bytes
from benchmarks.row import Row

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv-flwr"
LOCK = ROOT / "requirements" / "flwr.txt"
VERSION = LOCK.read_text(encoding="utf-8").partition("flwr==")[2].split()[0]

WITHIN = 600.0
"""Seconds for all of flwr's rounds of one case."""

AGGREGATE = """
import sys, time, numpy as np
from flwr.common import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
clients, numbers = int(sys.argv[1]), int(sys.argv[2])
draw = np.random.default_rng(0)
def reply():
    arrays = ArrayRecord({"w": Array(draw.random(numbers, np.float32))})
    return RecordDict({"arrays": arrays, "metrics": MetricRecord({"n": 32})})
held = [reply() for _ in range(3)]
replies = (held * clients)[:clients]
for turn in range(4):
    began = time.process_time()
    aggregate_arrayrecords(replies, "n")
    if turn: print(time.process_time() - began, flush=True)
"""

PYPROJECT = """
[project]
name = "bench"
version = "1.0.0"
description = ""
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "bench"
[tool.flwr.app.components]
serverapp = "bench.server:app"
clientapp = "bench.client:app"
[tool.flwr.app.config]
nodes = {nodes}
rounds = {rounds}
sizes = "{sizes}"
report = "{report}"
"""

CLIENT = """
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
app = ClientApp()

@app.train()
def train(message, context):
    given = message.content["arrays"]
    arrays = ArrayRecord({name: Array(array.numpy() + 0.001) for name, array in given.items()})
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 32})})
    return Message(content=content, reply_to=message)
"""

SERVER = """
import time, numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
app = ServerApp()

@app.main()
def main(grid, context):
    told = context.run_config
    sizes = [int(size) for size in told["sizes"].split(",")]
    draw, arrays = np.random.default_rng(0), {}
    for number, (before, after) in enumerate(zip(sizes, sizes[1:])):
        arrays[f"w{number}"] = Array(draw.random((after, before), np.float32))
        arrays[f"b{number}"] = Array(draw.random(after, np.float32))

    class Timed(FedAvg):
        def aggregate_train(self, server_round, replies):
            result = super().aggregate_train(server_round, replies)
            with open(told["report"], "a") as file:
                print(time.time(), file=file)
            return result

    nodes = told["nodes"]
    strategy = Timed(fraction_evaluate=0.0, min_train_nodes=nodes, min_available_nodes=nodes)
    strategy.start(grid, initial_arrays=ArrayRecord(arrays), num_rounds=told["rounds"])
"""


# --- flwr -----------------------------------------------------------------------------------------


def environment() -> Path | None:
    """The folder of flwr's programs; it is installed if need be. None: no index of packages can be reached."""
    programs, stamp = VENV / "bin", VENV / "installed"
    if stamp.exists() and stamp.read_text() == LOCK.read_text():
        return programs
    uv = ROOT / ".venv" / "uv" / "bin" / "uv"
    install: list[str | Path] = [uv, "pip", "install", "--python", programs / "python"]
    install = install if uv.exists() else [programs / "python", "-m", "pip", "install"]
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True, capture_output=True)
        subprocess.run(
            [*install, "--quiet", "--require-hashes", "-r", LOCK],
            check=True, capture_output=True, timeout=180, env={**os.environ, "UV_SYSTEM_CERTS": "true"},
        )  # fmt: skip
    except (subprocess.SubprocessError, OSError) as error:
        said = getattr(error, "stderr", None) or str(error).encode()
        print(f"left out: flwr {VERSION} cannot be installed: {said.decode().strip()[-300:]}", flush=True)
        return None
    stamp.write_text(LOCK.read_text())
    return programs


def aggregate_seconds(clients: int, numbers: int) -> list[float]:
    """Processor seconds of flwr's own weighted mean, one thread, several times; nothing without flwr."""
    programs = environment()
    if programs is None:
        return []
    command: list[str | Path] = [programs / "python", "-c", AGGREGATE, str(clients), str(numbers)]
    env = {**os.environ, **QUIET, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env, timeout=120)
    return [float(line) for line in done.stdout.split()]


QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}


def flower_rounds(programs: Path, folder: Path, case: Case) -> list[float]:
    """Seconds from one aggregate to the next. The first round, which begins with nothing started, does not count."""
    app, report, home = folder / "app", folder / "report", folder / "home"
    package = app / "bench"
    package.mkdir(parents=True)
    home.mkdir()
    sizes = ",".join(map(str, case.sizes))
    told = PYPROJECT.format(nodes=case.nodes, rounds=case.theirs, sizes=sizes, report=report)
    (app / "pyproject.toml").write_text(told)
    for name, text in (("__init__", ""), ("client", CLIENT), ("server", SERVER)):
        (package / f"{name}.py").write_text(text)
    port, *nodes = free_ports(1 + case.nodes)
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, **QUIET, "FLWR_HOME": str(home), "PATH": path}
    server: list[str | Path] = [
        programs / "flower-superlink",
        "--insecure",
        f"--port={port}",
        "--disable-runtime-dependency-installation",
    ]
    with ExitStack() as stack:
        stack.enter_context(started(server, folder / "superlink.log", env))
        wait_for(port)
        for number, own in enumerate(nodes):
            command: list[str | Path] = [
                programs / "flower-supernode",
                "--insecure",
                f"--superlink=127.0.0.1:{port}",
                f"--port={own}",
            ]
            stack.enter_context(started(command, folder / f"supernode-{number}.log", env))
        subprocess.run([programs / "flwr", "run", app, "here"], check=True, capture_output=True, env=env, timeout=60)
        moments = reported(report, case.theirs, folder / "superlink.log")
    return [after - before for before, after in pairwise(moments)]


@contextmanager
def started(command: list[str | Path], log: Path, env: dict[str, str]) -> Iterator[None]:
    """A program in the background for as long as the block lasts, with all that it starts."""
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file, env=env) as process:
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_for(port: int, within: float = 30.0) -> None:
    """Until somebody listens there."""
    until = time.monotonic() + within
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return


def reported(report: Path, rounds: int, log: Path) -> list[float]:
    """The moments at which rounds were over, once all of them are."""
    until = time.monotonic() + WITHIN
    while True:
        lines = report.read_text().split() if report.exists() else []
        if len(lines) >= rounds:
            return [float(line) for line in lines]
        if time.monotonic() > until:
            raise RuntimeError(f"{len(lines)} of {rounds} rounds of flwr\n{log.read_text()[-2000:]}")
        time.sleep(0.2)


# --- the comparison -------------------------------------------------------------------------------


class Case(NamedTuple):
    """Nodes, MB of the model; how many rounds of ours and of flwr's; the most of flwr's time that we may take."""

    nodes: int
    megabytes: str
    sizes: tuple[int, ...]
    ours: int
    theirs: int
    most: float


CASES = (
    Case(2, "0.1", SMALL, 40, 4, 1 / 100),
    Case(2, "100", HUGE, 5, 3, 1 / 6),
    Case(10, "0.1", SMALL, 20, 3, 1 / 200),
    Case(10, "10", LARGE, 5, 3, 1 / 35),
    Case(10, "100", HUGE, 3, 2, 1 / 10),
)
OVER_FLOOR = 4.0
WARM_UP = 2


def rows() -> Iterator[Row]:
    """The rows for `python -m benchmarks`."""
    programs = environment()
    for case in CASES:
        yield from compared(case, programs)


def compared(case: Case, programs: Path | None) -> Iterator[Row]:
    """The rows of one case: ours, the bare floor, and flwr's."""
    size, name = model_bytes(case.sizes), f"flower.{case.nodes}x{case.megabytes}"
    bare = floor_rounds(size, 2 * case.ours, case.nodes, WARM_UP)
    with scratch() as folder:
        periods, _ = grid_rounds(folder, case.sizes, case.ours, case.nodes, WARM_UP)
    bare += floor_rounds(size, 2 * case.ours, case.nodes, WARM_UP)
    ours, floor = statistics.median(periods), statistics.median(bare)
    what = f"{case.nodes} nodes, {case.megabytes} MB, sealed, checkpoint on disk (load {load().split()[0]})"
    yield Row(name, what, ours, "s")
    yield Row(f"{name}.floor", "the same bytes over bare aiohttp, no disk, no keys", floor, "s")
    bound = OVER_FLOOR if case.sizes != SMALL else None
    yield Row(f"{name}.over", "whole round over that floor", ours / floor, "x", most=bound)
    if programs is None:
        return
    with scratch() as folder:
        theirs = statistics.median(flower_rounds(programs, folder, case))
    yield Row(f"{name}.flwr", f"flwr {VERSION}'s deployment engine (load {load().split()[0]})", theirs, "s")
    yield Row(f"{name}.share", "whole round, of flwr's time", ours / theirs, "x", most=case.most)
