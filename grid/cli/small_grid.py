"""A whole grid on this machine: a gateway, or a network without a centre, and nodes with data, each a process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from grid.cli import digits
from grid.cli.desk import open_blobs, open_desk
from grid.cli.processes import Daemon, DaemonFailed, Daemons
from grid.client.grid import Grid, Node
from grid.wire.node import DatasetInfo

TAG = "#digits"
TAGS = (TAG, "#images")
LISTED_WITHIN = 20.0
LOOK_AGAIN = 0.05
DRAWN = "handwritten digits, 8 x 8 grey values from 0 to 1"

T = TypeVar("T")


@dataclass(frozen=True)
class SmallGrid:
    """What runs. `leave` lets it go on when the block ends.

    `gateway`: what all nodes were told of; without a centre a peer like them. `directories`: where to ask for nodes.
    """

    gateway: Daemon
    directories: tuple[str, ...]
    nodes: tuple[Daemon, ...]
    leave: Callable[[], list[int]]
    check: Callable[[], None]

    async def listed(self, grid: Grid) -> list[Node]:
        """Wait until a search by tag finds every node.

        Raises:
            DaemonFailed: one of them has ended, or is not found in time.
        """
        found: list[Node] = []
        try:
            async with asyncio.timeout(LISTED_WITHIN):
                while len(found := await grid.search(TAG)) < len(self.nodes):
                    self.check()
                    await asyncio.sleep(LOOK_AGAIN)
        except TimeoutError:
            missing = {node.name for node in self.nodes} - {node.id for node in found}
            raise DaemonFailed(f"a search does not find {', '.join(sorted(missing))}") from None
        return found


@asynccontextmanager
async def small_grid(
    folder: Path,
    shares: Mapping[str, digits.Share],
    trusted: str,
    ready: Callable[[Daemon], None],
    workers: int = 2,
    device: str = "auto",
    listen: bool = True,
    dht: bool = False,
) -> AsyncIterator[SmallGrid]:
    """Start a gateway, and a node for each share with that share as its dataset; stop them when the block ends.

    The holder of the key `trusted` may train at the nodes, each of which does up to `workers` jobs at once
    and trains on `device`. Without `listen` they have no ports, and are reached through the gateway alone.
    With `dht` there is no gateway, but a peer without data that all others meet the network through; without ports as
    well, it relays letters, and so does a second one.
    `ready` hears of each daemon that answers.

    Raises:
        DaemonFailed: one of them did not start; says what its log ends with.
    """
    async with Daemons(folder) as daemons:

        async def start(name: str, module: str, *words: str) -> Daemon:
            daemon = await daemons.start(name, module, "start", f"--data={folder / name}", *words)
            ready(daemon)
            return daemon

        async def node(name: str, share: digits.Share) -> Daemon:
            await _stock(folder, name, share)
            return await start(name, "grid.cli.node", "--port=0", f"--id={name}", *told)

        # Nobody waits for the gateway to load its modules: its port is fixed before, and nodes try again.
        port, jobs = free_port(), f"--workers={workers}"
        told = (
            f"--{'bootstrap' if dht else 'gateway'}=http://127.0.0.1:{port}",
            f"--trust={trusted}",
            "--isolation=prefer",
            "--warm",
            jobs,
            f"--device={device}",
            "--listen" if listen else "--no-listen",
        )
        peer = ("--dht", "--isolation=prefer", *(() if listen else ("--relay",)))
        met = [start("first", "grid.cli.node", f"--port={port}", "--id=first", *peer)] if dht else []
        if dht and not listen:
            met.append(start("second", "grid.cli.node", "--port=0", "--id=second", told[0], *peer))
        if not dht:
            met.append(start("gateway", "grid.cli.gateway", f"--port={port}"))
        there = await together(*met, *(node(name, share) for name, share in shares.items()))
        asked = there if listen and dht else there[: len(met)]
        directories = tuple(f"dht+{daemon.address}" if dht else daemon.address for daemon in asked)
        yield SmallGrid(there[0], directories, tuple(there[len(met) :]), daemons.leave, daemons.check)


async def _stock(folder: Path, name: str, share: digits.Share) -> None:
    """What `grid-node dataset add NAME.csv --name digits --tag '#digits' --target digit` does."""
    from grid.node.ingest import Reading, ingest, write_tensors  # numpy takes a moment

    digits.write_csv(share, table := folder / f"{name}.csv")
    reading = Reading("digit", classes=tuple(map(str, range(digits.CLASSES))))
    info, tensors = ingest(table, DatasetInfo("digits", DRAWN, TAGS), reading)
    draft = open_blobs(folder / name).create()
    write_tensors(tensors, draft)
    await draft.commit()
    async with open_desk(folder / name) as desk:
        await desk.add(info, draft.digest)


def free_port() -> int:
    """A port of this machine that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def together(*work: Coroutine[Any, Any, T]) -> list[T]:
    """Do all at once; the first that fails ends the others, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
