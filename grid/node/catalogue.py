"""The node's datasets: what is told about each, and where its tensors lie."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from grid.learning.tensors import Layout, Slot, data_offset, read_header
from grid.store import datasets as store
from grid.store.blobs import Blobs
from grid.store.database import Database
from grid.store.datasets import Dataset
from grid.store.schema import Transaction
from grid.wire.names import Name, Tag
from grid.wire.node import DatasetInfo
from grid.wire.problems import DatasetExists, DatasetNotFound, DatasetRefused, TensorsRefused

MAX_TAGS = 1024
"""The most different tags of one node: they all stand in its record."""
MAX_DESCRIPTION = 4_000_000
"""Bytes: the most that the description of a dataset may have, columns and all."""

BLOCK = 1 << 20

_STORED = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
}


def tidy_tags(words: Iterable[str]) -> tuple[str, ...]:
    """Tags as they are kept: single words, each once. Nothing else changes; `#x` is not `x`."""
    return tuple(dict.fromkeys(tag for word in words for tag in word.split()))


def check_info(info: DatasetInfo) -> DatasetInfo:
    """The description, if it keeps to the constraints of its wire type.

    Raises:
        DatasetRefused: the name or a tag cannot be one, or something is too long.
    """
    _check(info.name, Name, "a name: letters, digits, dots, dashes and underscores")
    for tag in info.tags:
        _check(tag, Tag, "a tag: 1 to 128 characters on one line")
    if len(encoded := msgspec.json.encode(info)) > MAX_DESCRIPTION:
        raise DatasetRefused(f"its description has {len(encoded)} bytes; at most {MAX_DESCRIPTION} are taken")
    try:
        return msgspec.json.decode(encoded, type=DatasetInfo)
    except msgspec.ValidationError as error:
        raise DatasetRefused(str(error)) from None


def _check(word: str, kind: Any, what: str) -> None:
    try:
        msgspec.convert(word, kind)
    except msgspec.ValidationError:
        raise DatasetRefused(f"{word[:140]!r} cannot be {what}") from None


class Catalogue:
    """All datasets of a node, in memory for those who ask and in the store for good.

    `changed` is called after each change, so that directories hear of it at once.
    """

    def __init__(
        self, database: Database, blobs: Blobs, now: Callable[[], float], changed: Callable[[], None] = lambda: None
    ) -> None:
        self._database, self._blobs, self._now = database, blobs, now
        self.changed = changed
        self._datasets = {d.info.name: d for d in database.read_now(store.all_datasets)}

    # --- what is told ---------------------------------------------------------------------------

    def list(self) -> tuple[DatasetInfo, ...]:
        """All datasets, in order of name."""
        return tuple(self._datasets[name].info for name in sorted(self._datasets))

    def get(self, name: str) -> DatasetInfo:
        """One dataset. Raises DatasetNotFound."""
        return self._dataset(name).info

    def tags(self) -> tuple[str, ...]:
        """All tags of all datasets that are not private, sorted."""
        return tuple(sorted({tag for d in self._datasets.values() if not d.private for tag in d.info.tags}))

    def holds(self, query: Sequence[str]) -> bool:
        """Whether one dataset has all the tags; none are had by none."""
        return self.find(query) is not None

    def find(self, tags: Sequence[str]) -> DatasetInfo | None:
        """The dataset with all the tags; of several, the one with the most examples, then the first by name."""
        wanted = set(tags)
        found = [d.info for d in self._datasets.values() if wanted and not d.private and wanted <= set(d.info.tags)]
        return min(found, key=lambda info: (-info.examples, info.name), default=None)

    # --- what changes ---------------------------------------------------------------------------

    async def add(self, info: DatasetInfo, digest: str) -> DatasetInfo:
        """Register the file of tensors that lies in the store as `digest`.

        Raises:
            DatasetExists: another dataset has the name.
            DatasetRefused: the description breaks a rule, or is not of that file.
        """
        if info.name in self._datasets:
            raise DatasetExists(f"a dataset named {info.name} is already here; remove it first")
        info = check_info(replace(info, tags=tidy_tags(info.tags), created=info.created or self._now()))
        if len({*self.tags(), *info.tags}) > MAX_TAGS:
            raise DatasetRefused(f"a node can have {MAX_TAGS} different tags")
        layout, offset = await asyncio.to_thread(_layout, self._blobs.path(digest))
        _check_tensors(info, layout)
        dataset = Dataset(info, digest, offset + layout.size)
        await self._database.write(partial(store.add, dataset=dataset))
        self._datasets[info.name] = dataset
        self.changed()
        return info

    async def remove(self, name: str) -> None:
        """Forget a dataset and delete its file, if no other dataset is the same file. Raises DatasetNotFound."""
        dataset, last = await self._database.write(partial(_remove, name=name))
        self._datasets.pop(name, None)
        if last:
            await asyncio.to_thread(self._blobs.delete, dataset.digest)
        self.changed()

    # --- the data itself: for the node's workers and its owner ------------------------------------

    def path_of(self, name: str) -> Path:
        """The file of a dataset's tensors. Raises DatasetNotFound."""
        return self._blobs.path(self._dataset(name).digest)

    def tensor_blocks(self, name: str, tensor: str) -> tuple[int, AsyncIterator[memoryview]]:
        """The bytes of one tensor: how many, and the blocks; each is overwritten by the next.

        Raises:
            DatasetNotFound: no such dataset, or no such tensor in it.
        """
        path = self.path_of(name)
        layout, offset = _layout(path)
        slot = layout.by_name.get(tensor)
        if slot is None:
            raise DatasetNotFound(f"dataset {name} has no tensor {tensor}; there are {', '.join(layout.by_name)}")
        return slot.spec.size, _blocks(path, offset, slot)

    def _dataset(self, name: str) -> Dataset:
        try:
            return self._datasets[name]
        except KeyError:
            raise DatasetNotFound(f"there is no dataset named {name}") from None


def _remove(connection: Transaction, name: str) -> tuple[Dataset, bool]:
    dataset = store.remove(connection, name)
    return dataset, not store.uses(connection, dataset.digest)


def _layout(path: Path) -> tuple[Layout, int]:
    """What a file of tensors holds and where its data begins. Raises DatasetRefused if it is none."""
    try:
        with path.open("rb") as file:
            prefix = file.read(8)
            prefix += file.read(data_offset(prefix) - 8)
        layout, _, offset = read_header(prefix, path.stat().st_size)
    except (OSError, TensorsRefused) as error:
        raise DatasetRefused(f"no file of tensors of that digest can be read: {error}") from None
    return layout, offset


def _check_tensors(info: DatasetInfo, layout: Layout) -> None:
    """Nothing is advertised that the file does not hold."""
    told = {(tensor.name, tensor.dtype, tensor.shape) for tensor in info.tensors}
    held = {(spec.name, _STORED.get(spec.dtype, spec.dtype), spec.shape) for spec in layout.specs}
    if told != held:
        raise DatasetRefused("the description names other tensors than the file holds")
    if not held or any(shape[:1] != (info.examples,) for _, _, shape in held):
        raise DatasetRefused(f"each tensor must have as many rows as there are examples, {info.examples}")
    if info.target is not None and info.target not in layout.by_name:
        raise DatasetRefused(f"the target {info.target!r} is none of its tensors")


async def _blocks(path: Path, offset: int, slot: Slot) -> AsyncIterator[memoryview]:
    left, buffer = slot.spec.size, memoryview(bytearray(min(BLOCK, max(1, slot.spec.size))))
    with path.open("rb", buffering=0) as file:
        file.seek(offset + slot.begin)
        while left:
            read = await asyncio.to_thread(file.readinto, buffer[: min(len(buffer), left)])
            if not read:
                raise DatasetRefused("the file of tensors is shorter than it was")
            yield buffer[:read]
            left -= read
