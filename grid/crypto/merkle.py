"""Merkle trees over an append-only log: roots, and proofs that something is in it and that nothing left it.

Hashes, proofs and their checks are those of RFC 9162, section 2.1 (SHA-256): `0x00 leaf` and `0x01 left right`, so
that no inner node can pass for a leaf. Indices count from 0; hashes have 32 bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from grid.crypto.errors import BadSignature

EMPTY = hashlib.sha256(b"").digest()
"""The root of a log without entries."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one entry."""
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees."""
    return hashlib.sha256(b"\1" + left + right).digest()


class Tree:
    """The hashes of a log. Appending costs two hashes on average; a root or a proof O(log n) of them."""

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [[]]  # at k: the roots of all whole subtrees of 2^k leaves
        for leaf in leaves:
            self.append(leaf)

    def __len__(self) -> int:
        return len(self._levels[0])

    def append(self, leaf: bytes) -> None:
        """Add the hash of an entry (`leaf_hash`)."""
        level = 0
        self._levels[0].append(leaf)
        while len(self._levels[level]) % 2 == 0:
            left, right = self._levels[level][-2:]
            level += 1
            if level == len(self._levels):
                self._levels.append([])
            self._levels[level].append(node_hash(left, right))

    def root(self, size: int | None = None) -> bytes:
        """The root over the first `size` entries, all of them if not given. Raises ValueError beyond the end."""
        size = len(self) if size is None else size
        if not 0 <= size <= len(self):
            raise ValueError(f"the log has {len(self)} entries, not {size}")
        return self._hash(0, size) if size else EMPTY

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """The proof that entry `index` is among the first `size` (2.1.3.1). Raises ValueError where it is not."""
        if not 0 <= index < size <= len(self):
            raise ValueError(f"there is no entry {index} among the first {size} of {len(self)}")
        return tuple(self._path(index, 0, size))

    def consistency(self, first: int, size: int) -> tuple[bytes, ...]:
        """The proof that the first `first` entries of `size` are those of a log of that size (2.1.4.1)."""
        if not 0 < first <= size <= len(self):
            raise ValueError(f"nothing is to be proved between {first} and {size} of {len(self)} entries")
        return tuple(self._subproof(first, 0, size, whole=True))

    def _hash(self, start: int, end: int) -> bytes:
        """The hash of a subtree that begins where one of its size may."""
        count = end - start
        if count & (count - 1) == 0:
            level = count.bit_length() - 1
            return self._levels[level][start >> level]
        middle = start + _split(count)
        return node_hash(self._hash(start, middle), self._hash(middle, end))

    def _path(self, index: int, start: int, end: int) -> list[bytes]:
        if end - start == 1:
            return []
        middle = start + _split(end - start)
        if index < middle:
            return [*self._path(index, start, middle), self._hash(middle, end)]
        return [*self._path(index, middle, end), self._hash(start, middle)]

    def _subproof(self, first: int, start: int, end: int, *, whole: bool) -> list[bytes]:
        if first == end:
            return [] if whole else [self._hash(start, end)]
        middle = start + _split(end - start)
        if first <= middle:
            return [*self._subproof(first, start, middle, whole=whole), self._hash(middle, end)]
        return [*self._subproof(first, middle, end, whole=False), self._hash(start, middle)]


def check_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """The entry with the hash `leaf` is number `index` of a log of `size` with this root (2.1.3.2).

    Raises:
        BadSignature: that is not proved.
    """
    if not 0 <= index < size:
        raise BadSignature(f"a log of {size} entries has none at {index}")
    place, last, result = index, size - 1, leaf
    for step in path:
        if last == 0:
            raise BadSignature("the proof of inclusion is too long")
        if place & 1 or place == last:
            result = node_hash(step, result)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            result = node_hash(result, step)
        place, last = place >> 1, last >> 1
    if last != 0 or result != root:
        raise BadSignature("the entry is not in the log that was signed")


def check_consistency(first: int, old: bytes, size: int, root: bytes, path: Sequence[bytes]) -> None:
    """A log of `size` entries with `root` begins with the one of `first` entries whose root is `old` (2.1.4.2).

    Raises:
        BadSignature: that is not proved: entries that were there are gone or altered.
    """
    if not 0 <= first <= size:
        raise BadSignature(f"a log of {first} entries cannot go on as one of {size}")
    if first in {0, size}:
        known = EMPTY if first == 0 else root
        if path or old != known:
            raise BadSignature("two logs of the same size differ")
        return
    before, after = _replayed(first, size, [old, *path] if first & (first - 1) == 0 else list(path))
    if (before, after) != (old, root):
        raise BadSignature("the log does not go on where it was: its history was rewritten")


def _replayed(first: int, size: int, steps: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The roots of the first log and of the second that a proof of consistency leads to."""
    if not steps:
        raise BadSignature("the proof of consistency is empty")
    place, last = first - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    before = after = steps[0]
    for step in steps[1:]:
        if last == 0:
            raise BadSignature("the proof of consistency is too long")
        if place & 1 or place == last:
            before, after = node_hash(step, before), node_hash(step, after)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            after = node_hash(after, step)
        place, last = place >> 1, last >> 1
    if last != 0:
        raise BadSignature("the proof of consistency is too short")
    return before, after


def _split(count: int) -> int:
    """The largest power of two below `count` (at least 2)."""
    return 1 << (count - 1).bit_length() - 1


class Frontier:
    """What suffices to follow a log: the roots of its largest whole subtrees, one for each bit of its size."""

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        if size.bit_count() != len(peaks) or any(len(peak) != len(EMPTY) for peak in peaks):
            raise ValueError(f"a log of {size} entries has other peaks")
        self.size, self.peaks = size, tuple(peaks)

    def after(self, entries: Iterable[bytes]) -> Frontier:
        """The log after further entries."""
        size, peaks = self.size, list(self.peaks)
        for entry in entries:
            peaks.append(leaf_hash(entry))
            size += 1
            for _ in range((size & -size).bit_length() - 1):  # as many as the addition carried
                right, left = peaks.pop(), peaks.pop()
                peaks.append(node_hash(left, right))
        return Frontier(size, peaks)

    def root(self) -> bytes:
        """The root of the log."""
        if not self.peaks:
            return EMPTY
        result = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            result = node_hash(peak, result)
        return result
