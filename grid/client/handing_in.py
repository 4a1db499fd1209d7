"""An upload that goes on where it broke off, for as long as it gets anywhere."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from grid.client.calls import Calls
from grid.client.continuing import PAUSES, YIELD
from grid.client.payload import BLOCK, read_blocks
from grid.wire.endpoint import Endpoint, Stream
from grid.wire.problems import Draining, GridError, MethodNotAllowed, PartMismatch, TooSlow, Unreachable
from grid.wire.ranges import Held, Piece

Gives = TypeVar("Gives")

NAMED = 4096
"""Bytes at the beginning of an envelope that no other envelope has: the key that is wrapped there is its own."""

WORTH = 1024 * 1024
"""Bytes: what is smaller goes in one piece; to ask how much arrived would take as long."""

BROKEN = (Unreachable, Draining, TooSlow, PartMismatch)


async def hand_in(
    calls: Calls,
    address: str,
    endpoint: Endpoint[Stream, Gives],
    held: Endpoint[None, Held],
    file: Path,
    *,
    peer: bytes | None = None,
    content: str = "",
    **path: Any,
) -> Gives:
    """Hand in a file: only what `held` does not say is there already. `content` is its SHA-256, if that is known.
    For an update, any digest is enough that tells it from others: see `named_by`.

    Raises what `Calls.upload` does; Unreachable once too many connections in a row brought nothing.
    """
    size = file.stat().st_size
    if size < WORTH:
        return await calls.upload(address, endpoint, read_blocks(file), length=size, peer=peer, **path)
    content = content or await asyncio.to_thread(_digest, file)
    begin = idle = 0
    while True:
        before = begin
        try:
            begin = await _held(calls, address, held, Piece(content), peer, path)
            blocks, query = read_blocks(file, begin), Piece(content, begin)
            return await calls.upload(address, endpoint, blocks, length=size - begin, query=query, peer=peer, **path)
        except BROKEN as error:
            broken: GridError = error
        idle = 0 if begin - before >= YIELD else idle + 1
        if idle > len(PAUSES):
            raise broken
        await asyncio.sleep(PAUSES[max(idle, 1) - 1])  # the other side has to notice as well


async def _held(
    calls: Calls, address: str, held: Endpoint[None, Held], piece: Piece, peer: bytes | None, path: dict[str, Any]
) -> int:
    try:
        return (await calls.call(address, held, query=piece, peer=peer, **path)).size
    except MethodNotAllowed:  # a daemon of a version that keeps no beginnings
        return 0


@asynccontextmanager
async def spooled(blocks: Iterable[bytes]) -> AsyncIterator[Path]:
    """Bytes that are made but once, such as an envelope, in a file for as long as the block lasts."""
    with tempfile.NamedTemporaryFile(prefix="grid-") as file:
        await asyncio.to_thread(file.writelines, blocks)
        file.flush()
        yield Path(file.name)


def named_by(envelope: Path) -> str:
    """What tells this sealed file from others, without reading all of it."""
    with envelope.open("rb", buffering=0) as source:
        return hashlib.sha256(source.read(NAMED)).hexdigest()


def _digest(file: Path) -> str:
    with file.open("rb", buffering=0) as source:
        total, block = hashlib.sha256(), bytearray(BLOCK)
        while size := source.readinto(block):
            total.update(memoryview(block)[:size])
    return total.hexdigest()
