"""A gateway, or a node, that relays a whole run holds nothing of it: not on disk, not in memory, not on the wire.

Marks are planted in data, model, update and in the words of calls. They are looked for in the database and files of a
relay that is a process of its own, in all its memory, and in every byte that came to it and went out of it.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from aiohttp import ClientSession

from grid.cli.processes import Daemon, Daemons
from grid.client.writing import open_relay
from grid.wire.node import DATASETS
from tests.cutting import Line, a_line
from tests.grid_of_nodes import ANode, Learner, Scientist, a_node, add_arrays, numbers, plan_of


@dataclass
class Wire:
    """A relay behind a line that tapes all that moves."""

    relay: Daemon
    data: Path
    line: Line

    def places(self) -> Iterator[tuple[str, bytes]]:
        """All that the relay has, and all that came and went."""
        for path in self.data.rglob("*"):
            if path.is_file():
                yield str(path.relative_to(self.data)), path.read_bytes()
        for number, taped in enumerate(self.line.taped or ()):
            yield f"way {number}", bytes(taped)
        yield from memory(self.relay.pid)

    def where(self, mark: bytes) -> list[str]:
        """Where a mark is found: as it is, in base64 at any offset, or in hexadecimal."""
        spellings = {mark, mark.hex().encode(), *(_encoded(mark, offset) for offset in range(3))}
        return [name for name, content in self.places() if any(each in content for each in spellings)]


def memory(pid: int) -> Iterator[tuple[str, bytes]]:
    """The memory of a process, mapping by mapping."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            if not rights.startswith("rw") or "[v" in line:
                continue
            begin, end = (int(each, 16) for each in span.split("-"))
            file.seek(begin)
            try:
                yield f"memory {span}", file.read(end - begin)
            except OSError:  # gone meanwhile, or never touched
                continue


def _encoded(mark: bytes, offset: int) -> bytes:
    """What is in every base64 text with the mark at this offset of a group."""
    return base64.b64encode(bytes(offset) + mark)[4 if offset else 0 :].rstrip(b"=")[:-4]


@pytest.fixture(params=["gateway", "node"])
async def wire(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Wire]:
    data, more = tmp_path / request.param, {"gateway": (), "node": ("--dht", "--relay")}[request.param]
    async with Daemons(tmp_path) as daemons:
        module = f"grid.cli.{request.param}"
        relay = await daemons.start(request.param, module, "start", f"--data={data}", "--port=0", *more)
        async with a_line(relay.address) as line:
            line.tape()
            yield Wire(relay, data, line)


@asynccontextmanager
async def hidden(name: str, folder: Path, wire: Wire, learner: Learner | None = None) -> AsyncIterator[ANode]:
    """A node without a port, behind the line."""
    node = await a_node(name, folder / name, learner, data=False, listen=False, gateways=(wire.line.address,))
    try:
        await node.open.readable()
        yield node
    finally:
        await node.stop()


def marked(rows: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Numbers that nobody else has."""
    return np.frombuffer(secrets.token_bytes(rows), np.uint8).astype(np.float32) / np.float32(7.0)


@pytest.mark.slow
@pytest.mark.parametrize("width", [40, 300_000], ids=["small", "large"])
async def test_a_relay_finds_nothing_of_what_it_passes_on(
    wire: Wire, tmp_path: Path, connections: ClientSession, width: int
) -> None:
    goal, plan = 3.0625, plan_of(width, seed=secrets.randbelow(1 << 31))
    begins, data = numbers(plan.initial), marked(60).reshape(20, 3)
    name = f"data-{secrets.token_hex(12)}"
    scientist = Scientist(connections)
    async with (
        open_relay(scientist.calls, scientist.identity, time.time),
        hidden("carol", tmp_path, wire) as carol,
        hidden("ann", tmp_path, wire, Learner(goal=goal)) as ann,
        hidden("bob", tmp_path, wire, Learner(goal=goal)) as bob,
    ):
        for node in (ann, bob):
            await add_arrays(node.open, {"features": data, "target": data[:, :1]}, name)
        described = await scientist.calls.call(ann.address, DATASETS, peer=ann.identity.public)
        run = await scientist.start(carol, [ann, bob], plan, rounds=1)
        result = await run.result()
        learned = numbers(result.plan.initial)
        marks = {
            "data": data.tobytes()[:64],
            "model": begins.tobytes()[8:72],
            "update": ((begins + np.float32(goal)) / 2).astype(np.float32).tobytes()[8:72],
            "name of a dataset": name.encode(),
            "run": run.id.encode(),
            "plan": plan.digest.encode(),
        }
        found = {what: await asyncio.to_thread(wire.where, mark) for what, mark in marks.items()}
        seen = await asyncio.to_thread(wire.where, ann.identity.id.encode())

    assert described.datasets[0].name == name
    np.testing.assert_allclose(learned, (begins + goal) / 2, rtol=1e-6)  # the marks were there, and travelled
    assert found == {what: [] for what in marks}
    # The search itself finds what a relay does know: who has a mailbox.
    assert any(place.startswith("way") for place in seen)
    assert any(place.startswith("memory") for place in seen)
    assert any(".db" in place for place in seen)
