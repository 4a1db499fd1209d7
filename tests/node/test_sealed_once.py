"""Envelopes that wait for their reader."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from grid.client.payload import read_prekey
from grid.crypto.identity import Identity
from grid.crypto.prekeys import Prekey, PrekeyPublic, publish
from grid.node.sealed_once import SealedOnce
from grid.store.blobs import Blobs
from grid.transport.parts import Parts

ANN = Identity.from_seed(b"a" * 32)
MANY = 1 << 20
ONE, OTHER = Path("one"), Path("other")


def prekey() -> PrekeyPublic:
    return read_prekey(publish(ANN, Prekey.generate(), 0.0, 60.0), ANN.public, 1.0)


def envelope(word: bytes) -> Iterator[bytes]:
    yield word
    yield b"!"


async def read(parts: Parts, begin: int = 0) -> bytes:
    return b"".join([bytes(block) async for block in parts.read(begin, parts.size)])


def left(folder: Path) -> int:
    return len(list((folder / ".drafts").iterdir()))


async def test_whoever_comes_back_reads_on_in_the_same_bytes(tmp_path: Path) -> None:
    sealed, ann = SealedOnce(Blobs(tmp_path)), prekey()

    first = await sealed.parts(ONE, ann, envelope(b"sealed"), MANY)
    again = await sealed.parts(ONE, ann, envelope(b"anew"), MANY)

    assert (first.tag, first.size) == (again.tag, 7)
    assert (await read(first), await read(again, 3)) == (b"sealed!", b"led!")


async def test_another_source_or_prekey_takes_its_place(tmp_path: Path) -> None:
    sealed, ann = SealedOnce(Blobs(tmp_path)), prekey()
    tags = {(await sealed.parts(ONE, ann, envelope(b"1"), MANY)).tag}
    tags.add((await sealed.parts(OTHER, ann, envelope(b"2"), MANY)).tag)
    tags.add((await sealed.parts(OTHER, prekey(), envelope(b"3"), MANY)).tag)

    assert (len(tags), left(tmp_path)) == (3, 1)
    sealed.close()
    assert left(tmp_path) == 0


async def test_what_is_small_is_not_kept(tmp_path: Path) -> None:
    parts = await SealedOnce(Blobs(tmp_path)).parts(ONE, prekey(), envelope(b"small"), 6)

    assert (await read(parts), left(tmp_path)) == (b"small!", 0)


async def test_an_envelope_does_not_wait_for_ever(tmp_path: Path) -> None:
    await SealedOnce(Blobs(tmp_path), life=0.0).parts(ONE, prekey(), envelope(b"1"), MANY)
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, later.set)
    await later.wait()

    assert left(tmp_path) == 0
