"""From the first process to the first finished round: a gateway, two nodes with torch, a client that coordinates.

Nothing runs before; the nodes' tiny datasets are on disk. What a person does in three terminals and a notebook
is started at once here, so the time is the programs' own.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.daemons import TAG, gateway_command, give_dataset, node_command, scratch
from benchmarks.row import Row
from grid.cli.connect import my_identity

NODES = ("alice", "bob")
REPEATS = 3
WITHIN = 60.0

CLIENT = """
import sys, time, grid
from grid.wire.problems import Unreachable
url, tag, nodes = sys.argv[1], sys.argv[2], int(sys.argv[3])
g = grid.connect(url)
while True:
    try:
        if len(g.search(tag)) == nodes:
            break
    except Unreachable:
        pass
    time.sleep(0.02)
run = g.train(grid.Plan.mlp([64, 128, 10], batch=32), data=tag, rounds=1)
print("started", time.time(), flush=True)
for event in run.watch():
    if event.kind == "round-closed":
        print("closed", time.time(), flush=True)
    if event.kind == "run-ended" and event.data["state"] != "success":
        print(event.data["reason"], flush=True)
g.close()
"""


def free_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        port: int = each.getsockname()[1]
        return port


def first_round(folder: Path) -> dict[str, float]:
    """Seconds from the first process until the run was started, and until its first round was closed."""
    home, port = folder / "home", free_port()
    trust, url = my_identity(home).id, f"http://127.0.0.1:{port}"
    for name in NODES:
        give_dataset(folder / name, rows=200)
    commands = [gateway_command(folder, port)]
    commands += [node_command(folder, name, gateways=(url,), trust=trust, warm=True) for name in NODES]
    client = [sys.executable, "-c", CLIENT, url, TAG, str(len(NODES))]
    began = time.time()
    with (folder / "log").open("wb") as log:
        started = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log) for command in commands]
        try:
            environment = {**os.environ, "GRID_HOME": str(home)}
            said = subprocess.run(client, env=environment, capture_output=True, text=True, timeout=WITHIN, check=False)
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(20.0)
    moments = dict(words.split() for words in said.stdout.splitlines() if words.startswith(("started", "closed")))
    if "closed" not in moments:
        raise RuntimeError(f"{said.stdout}{said.stderr[-1000:]}{(folder / 'log').read_text()[-2000:]}")
    return {word: float(at) - began for word, at in moments.items()}


def spent() -> float:
    """Processor seconds of all processes that have ended here."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def demo_first_round() -> float | None:
    """What `grid-node demo` tells of its own first round; None where there is no demo."""
    command = [sys.executable, str(Path(sys.executable).with_name("grid-node")), "demo", "--rounds=2", "--json"]
    began = time.time()
    with scratch() as folder:  # where it leaves its report
        said = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120.0, check=False)
    if said.returncode:
        print(f"no demo: {said.stderr[-300:]}")
        return None
    print(f"the whole demo of two rounds took {time.time() - began:.1f} s")
    return float(json.loads(said.stdout.splitlines()[-1])["first_round_s"])


def rows() -> Iterator[Row]:
    """The rows of this benchmark."""
    times, before = [], spent()
    for _ in range(REPEATS):
        with scratch() as folder:
            times.append(first_round(folder))
    closed, started = (statistics.median(each[word] for each in times) for word in ("closed", "started"))
    yield Row("cold.first_round", "gateway, 2 nodes, client started at once: first round finished", closed, "s", most=6)
    yield Row("cold.run_taken_up", "of it until both nodes are found and the run is taken up", started, "s")
    cpu = (spent() - before) / REPEATS
    yield Row("cold.cpu", "processor time of all of it, two imports of torch among it, and of its end", cpu, "s")
    demo = demo_first_round()
    if demo is not None:
        yield Row("cold.demo", "`grid-node demo`: first round finished", demo, "s", most=10)
