"""Updates that a job keeps on disk where memory would not hold them: one file without a name, unreadable to others.

The descriptor of the file comes in before the sandbox closes, with a limit on its size. Updates lie sealed on disk
elsewhere; so that no plain copy is left on a platter, blocks are enciphered here with a key that never leaves the
seat, AES-256 in counter mode. The key is drawn anew with each round, because a round writes where the last one wrote.
Nothing is authenticated: the file has no name, and who can change it can change this process.
"""

from __future__ import annotations

import errno
import os

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from grid.wire.problems import WorkerFailed
from grid.worker.port import CIPHER_BLOCK as BLOCK
from grid.worker.port import spilled_size

PIECE = 256 << 10
FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}


class Spill:
    """The updates of one round, each `size` bytes, in the file behind `descriptor`. Fulfils `robust.Updates`."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._file, self._size = descriptor, size
        self._stride = spilled_size(size)
        self._scratch, self._plain = bytearray(PIECE + BLOCK), bytearray(PIECE + 3 * BLOCK)
        self.clear()

    def __len__(self) -> int:
        return self._count

    def append(self, update: memoryview) -> None:
        """Keep one more.

        Raises:
            WorkerFailed: the disk is full, or it is more than was asked for when the job began.
        """
        cipher = self._cipher(self._count * self._stride)
        os.lseek(self._file, self._count * self._stride, os.SEEK_SET)
        try:
            for begin in range(0, self._size, PIECE):
                piece = update[begin : min(begin + PIECE, self._size)]
                cipher.update_into(piece, self._plain)
                _write(self._file, memoryview(self._plain)[: len(piece)])
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise WorkerFailed(f"there is no room on disk for update {self._count + 1} of this round") from None
        self._count += 1

    def read(self, index: int, begin: int, target: memoryview) -> None:
        """Fill `target` with the bytes of an update from `begin` on."""
        where = index * self._stride + begin
        skipped = where % BLOCK
        cipher = self._cipher(where - skipped)
        cipher.update_into(bytes(skipped), self._plain)
        os.lseek(self._file, where, os.SEEK_SET)
        for start in range(0, len(target), PIECE):
            piece = memoryview(self._scratch)[: min(PIECE, len(target) - start)]
            _read(self._file, piece)
            cipher.update_into(piece, self._plain)
            target[start : start + len(piece)] = self._plain[: len(piece)]

    def clear(self) -> None:
        """Forget all: without the key, what is on disk is noise."""
        self._key, self._count = os.urandom(32), 0

    def _cipher(self, where: int) -> CipherContext:
        return Cipher(AES(self._key), CTR((where // BLOCK).to_bytes(16, "big"))).encryptor()


def warm_up() -> None:
    """Use the cipher once, so that a seat finds it loaded."""
    context = Cipher(AES(bytes(32)), CTR(bytes(16))).encryptor()
    context.update_into(bytes(BLOCK), bytearray(2 * BLOCK))


def _write(file: int, data: memoryview) -> None:
    while data:
        data = data[os.write(file, data) :]


def _read(file: int, target: memoryview) -> None:
    while target:
        got = os.readv(file, [target])
        if not got:
            raise OSError(errno.EIO, "the file of the updates is cut off")
        target = target[got:]
