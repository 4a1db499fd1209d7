"""Runs the benchmarks, each in a process of its own, and shows what came of them.

python -m benchmarks [NAME...] [--json FILE] [--write]

Without a name all that are not in brackets are run, and the table in docs/performance.md is written.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import page
from benchmarks.machine import describe, load
from benchmarks.row import Row, line, table

BENCHMARKS = {
    "rounds": "what a round costs besides learning",
    "aggregation": "the sum of ten updates of 100 MB, beside flwr's",
    "uploads": "updates in fewer bytes, and what that costs in accuracy",
    "idle": "memory and processor while nothing happens",
    "cold_start": "from the first process to the first finished round",
    "streams": "200 MB in and out of a node",
    "control_plane": "signed requests per second",
    "gateway": "searches, joins, renewals, memory per member",
    "relay": "a round between nodes without ports, and what idle mailboxes cost",
    "workers": "from an assignment to the first training step",
    "sealing": "100 MB sealed and opened, beside cipher, hash and files by themselves",
    "secure": "a secure sum above a plain one: processor time, error, masks beside flwr's",
    "permissions": "one permission, and the first page of 10,000 datasets",
    "dp": "a training step that hides each record beside a plain one, and accuracy under an epsilon of 3",
    "deaths": "a participant and a coordinator killed in the middle of a round",
    "interpreter": "a training step through a plan",
    "simulation": "events and fits a second, memory, and what policies come to",
    "install": "what an installation takes on disk",
}
ONLY_BY_NAME = {
    "crowd": "memory with 10 and with 50 nodes of 100 MB; a node's processor time for an assignment: minutes, 8 GB",
    "gpu": "training steps in seats with an NVIDIA GPU beside the same on the processor",
    "in_clear": "a round of ten nodes with 100 MB beside the same without cipher and hash: minutes, 4 GB",
    "flower": "rounds beside flwr's deployment engine: ten minutes",
}
LIMITS = {"in_clear": 600.0, "flower": 1500.0, "crowd": 900.0}
LIMIT = 240.0
"""Seconds for one benchmark."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=__doc__, epilog=_list(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which (all but those in brackets)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as well")
    parser.add_argument("--write", action="store_true", help="write the rows of those named into docs/performance.md")
    parser.add_argument("--alone", choices=[*BENCHMARKS, *ONLY_BY_NAME], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.names) - {*BENCHMARKS, *ONLY_BY_NAME}:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    if options.alone:
        return _measure(options.alone)
    return _run(options.names or list(BENCHMARKS), options.json, written=options.write or not options.names)


def _list() -> str:
    bracketed = {f"({name})": what for name, what in ONLY_BY_NAME.items()}
    return "\n".join(f"  {name:<14} {what}" for name, what in {**BENCHMARKS, **bracketed}.items())


def _run(names: list[str], target: Path | None, *, written: bool) -> int:
    machine, found, broken = describe(), list[Row](), []
    print(machine, flush=True)
    for name in names:
        began = time.monotonic()
        print(f"\n{name}: {(BENCHMARKS | ONLY_BY_NAME)[name]} (load {load()})", flush=True)
        came, ok = _apart(name)
        found += came
        broken += [] if ok else [name]
        print(f"  {time.monotonic() - began:.0f} s", flush=True)
    print("", *table(found), sep="\n")
    if broken:
        print(f"broken: {', '.join(broken)}")
    if written:
        page.write(machine, found, load())
    if target is not None:
        kept = {"machine": machine, "rows": [row.plain() for row in found], "broken": broken}
        target.write_text(json.dumps(kept, indent=1))
    return 1 if broken else 0


def _measure(name: str) -> int:
    """Run one benchmark here; its rows go out as lines of JSON."""
    for row in importlib.import_module(f"benchmarks.{name}").rows():
        print(json.dumps(row.__dict__), flush=True)
    return 0


def _apart(name: str) -> tuple[list[Row], bool]:
    """Run one benchmark in a process of its own: what it measured, and whether it came to its end."""
    command = [sys.executable, "-m", "benchmarks", "--alone", name]
    found: list[Row] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        old = signal.signal(signal.SIGALRM, lambda *_: _end(process))
        signal.setitimer(signal.ITIMER_REAL, LIMITS.get(name, LIMIT))
        try:
            for said in process.stdout:
                if said.startswith("{"):
                    found.append(Row(**json.loads(said)))
                    print(f"  {line(found[-1])}", flush=True)
                else:
                    print(f"  {said.rstrip()}", flush=True)
            return found, process.wait() == 0
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """With all that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    sys.exit(main())
