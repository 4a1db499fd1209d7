"""What sealing costs a round: the same daemons, and the same whose payloads are neither encrypted nor hashed.

The second are started through this module, which takes cipher and digest out of their envelopes and leaves all else
as it is: headers, wraps, signatures, files. No node outside of this benchmark can be made to do so.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks import daemons
from benchmarks.machine import load
from benchmarks.rounds import HUGE, grid_rounds
from benchmarks.row import Row
from grid.cli import node as node_program
from grid.crypto import envelope, sealing

NODES, ROUNDS, WARM_UP, TURNS = 10, 3, 1, 2
BOUND = 1.6


class Copied:
    """Stands in for a cipher: what comes goes out; `length` bytes of it, what else there is belongs to the tags."""

    def __init__(self, length: int = -1) -> None:
        self._left, self._seen = length, 0

    def update_into(self, block: Any, out: Any) -> int:
        count = len(block) if self._left < 0 else min(len(block), self._left)
        memoryview(out)[:count] = memoryview(block)[:count]
        self._seen += count
        self._left -= count if self._left > 0 else 0
        return count

    def update(self, block: Any) -> bytes:
        out = bytearray(len(block))
        return bytes(memoryview(out)[: self.update_into(block, out)])

    def finalize(self) -> bytes:
        return bytes(envelope.body_size(self._seen) - self._seen) if self._left < 0 else b""


class Unhashed:
    """Stands in for a digest: the same for everything."""

    def update(self, block: Any, /) -> None:
        return None

    def digest(self) -> bytes:
        return bytes(32)


def take_out() -> None:
    """From here on, envelopes of this process are as large as any, and hide and prove nothing."""
    check, sealer = envelope.EnvelopeCheck.__init__, sealing.BodySealer.__init__

    def checking(self: Any, *words: Any, **named: Any) -> None:
        check(self, *words, **named)
        self._digest = Unhashed()

    def sealed(self: Any, *words: Any, **named: Any) -> None:
        sealer(self, *words, **named)
        self._digest, self._encryptor = Unhashed(), Copied()

    def unlocked(self: Any) -> Any:
        if self._decryptor is None:
            self._unwrap()
            self._decryptor = Copied(self._check.header.length)
        return self._decryptor

    envelope.EnvelopeCheck.__init__ = checking  # type: ignore[method-assign]
    sealing.BodySealer.__init__ = sealed  # type: ignore[method-assign]
    sealing.Opener._unlocked = unlocked  # type: ignore[method-assign]
    daemons.LAUNCHER[:] = [sys.executable, "-m", __spec__.name]


def seconds() -> list[float]:
    """The rounds of one grid, in seconds."""
    with daemons.scratch() as folder:
        return grid_rounds(folder, HUGE, ROUNDS, NODES, WARM_UP)[0]


def rows() -> Iterator[Row]:
    """The rows for `python -m benchmarks`: sealed and in clear in turns."""
    found, clear = list[float](), list[float]()
    for _ in range(TURNS):
        found += seconds()
        said = subprocess.run(
            [sys.executable, "-m", __spec__.name, "rounds"], check=True, capture_output=True, text=True
        )
        clear += json.loads(said.stdout.splitlines()[-1])
    mine, theirs = statistics.median(found), statistics.median(clear)
    yield Row("sealed.round", f"{NODES} nodes, 100 MB, sealed (load {load().split()[0]})", mine, "s")
    yield Row("sealed.round.clear", "the same, its payloads neither encrypted nor hashed", theirs, "s")
    yield Row("sealed.round.over", "sealed, of that", mine / theirs, "x", most=BOUND)


if __name__ == "__main__":
    take_out()
    program = sys.argv.pop(1)
    if program == "rounds":
        print(json.dumps(seconds()))
    else:
        node_program.main()
