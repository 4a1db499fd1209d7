"""Gateways and nodes as processes of their own, and small datasets for them."""

from __future__ import annotations

import asyncio
import random
import select
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from grid.learning.tensors import Layout, TensorSpec, header_bytes
from grid.node.catalogue import Catalogue
from grid.store.blobs import Blobs
from grid.store.database import Database
from grid.wire.node import DatasetInfo, TensorInfo

READY_WITHIN = 30.0
TAG = "#bench"

LAUNCHER: list[str] = []
"""What starts programs instead of themselves, where a benchmark compares them with a variant."""


@dataclass(frozen=True)
class Daemon:
    """A daemon that answers at `address`; its state lies in `data`."""

    address: str
    pid: int
    data: Path


def gateway_command(folder: Path, port: int = 0) -> list[str]:
    """The command that starts a gateway."""
    return [*_program("grid-gateway"), "start", f"--port={port}", f"--data={folder / 'gateway'}"]


def node_command(
    folder: Path,
    name: str,
    *,
    gateways: tuple[str, ...] = (),
    trust: str = "",
    warm: bool = False,
    port: int = 0,
    listen: bool = True,
) -> list[str]:
    """The command that starts a node; `trust`: the key that may train there."""
    flags = (
        ["--no-listen"] * (not listen)
        + [f"--gateway={url}" for url in gateways]
        + [f"--trust={trust}"] * bool(trust)
        + ["--warm"] * warm
    )
    return [*_program("grid-node"), "start", f"--port={port}", f"--id={name}", f"--data={folder / name}", *flags]


def _program(name: str) -> list[str]:
    return [*LAUNCHER, name] if LAUNCHER else [sys.executable, str(Path(sys.executable).with_name(name))]


@contextmanager
def gateway(folder: Path) -> Iterator[Daemon]:
    """A gateway for as long as the block lasts."""
    with _running(gateway_command(folder), folder / "gateway") as daemon:
        yield daemon


@contextmanager
def node(
    folder: Path,
    name: str,
    *,
    gateways: tuple[str, ...] = (),
    trust: str = "",
    warm: bool = False,
    port: int = 0,
    listen: bool = True,
) -> Iterator[Daemon]:
    """A node for as long as the block lasts."""
    command = node_command(folder, name, gateways=gateways, trust=trust, warm=warm, port=port, listen=listen)
    with _running(command, folder / name) as daemon:
        yield daemon


@contextmanager
def _running(command: list[str], data: Path) -> Iterator[Daemon]:
    data.mkdir(parents=True, exist_ok=True)
    with (data / "log").open("wb") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process:
        try:
            yield Daemon(_address(process, data / "log"), process.pid, data)
        finally:
            process.terminate()
            try:
                process.wait(15.0)
            except subprocess.TimeoutExpired:
                process.kill()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], READY_WITHIN)
    said = process.stdout.readline().decode() if ready else ""
    if not said.startswith("listening on "):
        raise RuntimeError(f"not ready: {said!r}\n{log.read_text()[-2000:]}")
    return said.split()[-1]


def give_dataset(data: Path, *, rows: int, features: int = 64, tag: str = TAG) -> None:
    """Put random numbers into the node whose state is in `data`, before it starts."""
    asyncio.run(_give_dataset(data, rows, features, tag))


async def _give_dataset(data: Path, rows: int, features: int, tag: str) -> None:
    layout = Layout([TensorSpec("features", "F32", (rows, features)), TensorSpec("target", "I64", (rows,))])
    draw = random.Random(0)  # the same for everybody
    tensors = {
        "features": array("f", (draw.random() for _ in range(features))).tobytes() * rows,
        "target": array("q", (i % 10 for i in range(rows))).tobytes(),
    }
    data.mkdir(parents=True, exist_ok=True)
    async with Database(data / "node.db", "node") as database:
        blobs = Blobs(data / "blobs")
        draft = blobs.create()
        for block in (header_bytes(layout), *(tensors[spec.name] for spec in layout.specs)):
            draft.write(block)
        await draft.commit()
        told = (TensorInfo("features", "float32", (rows, features)), TensorInfo("target", "int64", (rows,)))
        info = DatasetInfo("bench", tags=(tag,), examples=rows, tensors=told, target="target")
        await Catalogue(database, blobs, time.time).add(info, draft.digest)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="grid-bench-") as folder:
        yield Path(folder)
