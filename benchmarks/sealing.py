"""Sealing and opening a file of 100 MB, beside the same cipher, hash, reads and writes by themselves.

In turns, medians; all files stay in the page cache. Wall time: sealing and opening use a second thread for the hash.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography.cobblestone import Cobblestone128Encryptor

from benchmarks.daemons import scratch
from benchmarks.row import Row
from grid.crypto.envelope import Context, Header
from grid.crypto.identity import Identity
from grid.crypto.prekeys import Prekey, publish, read_published
from grid.crypto.sealing import BLOCK, Opener, open_file, room_for, seal_file

SIZE = 100_000_000
RECIPIENTS = 100
REPEATS = 7
NOW = 1_800_000_000


class Files:
    """One payload to be sealed and opened again, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.plain, self.sealed, self.opened = (folder / name for name in ("plain", "sealed", "opened"))
        self.plain.write_bytes(os.urandom(SIZE))
        self.me, self.prekey = Identity.generate(), Prekey.generate()
        self.public = read_published(publish(self.me, self.prekey, NOW, NOW + 60), self.me.public, NOW)
        self.header = Header(sender=self.me.public, kind="model", run="r", round=1, created=NOW, expires=NOW + 60)

    def seal(self, recipients: int = 1) -> None:
        seal_file(self.me, self.header, self.plain, self.sealed, [self.public] * recipients)

    def open(self) -> None:
        context = Context(run="r", round=1, kind="model", sender=self.me.public)
        open_file(self.sealed, self.opened, Opener(self.me.public, {self.prekey.id: self.prekey}.get, context, NOW))

    def parts(self) -> None:
        """The cipher, the hash, one read and one write of all bytes: what no envelope can do without."""
        out, digest = memoryview(bytearray(room_for(BLOCK))), hashlib.sha256()
        cipher = Cobblestone128Encryptor(bytes(16), bytes(32))
        with self.plain.open("rb", buffering=0) as source, self.opened.open("wb", buffering=0) as target:
            while block := source.read(BLOCK):
                piece = out[: cipher.update_into(block, out)]
                digest.update(piece)
                target.write(piece)


def median_of(*works: Callable[[], None]) -> list[float]:
    """Seconds of each, in turns."""
    took: list[list[float]] = [[] for _ in works]
    for _ in range(REPEATS):
        for work, seconds in zip(works, took, strict=True):
            before = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - before)
    return [statistics.median(seconds) for seconds in took]


def rows() -> Iterator[Row]:
    """The rows of this benchmark."""
    with scratch() as folder:
        files = Files(folder)
        files.seal()
        sealing, opening, parts = median_of(files.seal, files.open, files.parts)
        (many,) = median_of(lambda: files.seal(RECIPIENTS))
        size = files.sealed.stat().st_size
    yield Row("sealing.rate", "100 MB sealed, file to file", SIZE / sealing / 1e6, "MB/s", least=500)
    yield Row("sealing.open.rate", "100 MB opened, file to file", SIZE / opening / 1e6, "MB/s", least=500)
    yield Row("sealing.ratio", "sealing, of cipher, hash, reads and writes", sealing / parts, "x", most=1.3)
    yield Row("sealing.open.ratio", "opening, of the same", opening / parts, "x", most=1.3)
    yield Row("sealing.many", f"for {RECIPIENTS} recipients, of the time for one", many / sealing, "x")
    yield Row("sealing.many.bytes", f"for {RECIPIENTS} recipients: bytes beside the payload", (size - SIZE) / 1e3, "kB")
