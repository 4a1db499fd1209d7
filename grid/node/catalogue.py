"""The node's datasets: what is told about each, and where its tensors lie."""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from grid.learning.tensors import Layout, data_offset, read_header
from grid.protocol.permission import Visibility
from grid.store import datasets as store
from grid.store.blobs import Blobs, Draft
from grid.store.database import Database
from grid.store.datasets import Dataset
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
        self.names = sorted(self._datasets)

    # --- what is told ---------------------------------------------------------------------------

    def list(self) -> tuple[DatasetInfo, ...]:
        """All datasets, in order of name."""
        return tuple(self._datasets[name].info for name in self.names)

    def advertised(self) -> tuple[DatasetInfo, ...]:
        """Those that are not hidden, in order of name."""
        return tuple(self._datasets[name].info for name in self.names if _advertised(self._datasets[name]))

    def get(self, name: str) -> DatasetInfo:
        """One dataset. Raises DatasetNotFound."""
        return self.dataset(name).info

    def tags(self) -> tuple[str, ...]:
        """All tags of all datasets that are not hidden, sorted."""
        return tuple(sorted({tag for d in self._datasets.values() if _advertised(d) for tag in d.info.tags}))

    def holds(self, query: Sequence[str]) -> bool:
        """Whether one dataset has all the tags; none are had by none."""
        return self.find(query) is not None

    def find(self, tags: Sequence[str], may: Callable[[Dataset], bool] | None = None) -> DatasetInfo | None:
        """The dataset with all the tags; of several, the one with the most examples, then the first by name.

        `may`: whether who asks may find it; if not given, all that are advertised may be found.
        """
        wanted, may = set(tags), may or _advertised
        found = [d.info for d in self._datasets.values() if wanted and wanted <= set(d.info.tags) and may(d)]
        return min(found, key=lambda info: (-info.examples, info.name), default=None)

    # --- what changes ---------------------------------------------------------------------------

    async def add(self, info: DatasetInfo, digest: str, visibility: Visibility = "private") -> DatasetInfo:
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
        dataset = Dataset(info, digest, offset + layout.size, visibility)
        await self._database.write(partial(store.add, dataset=dataset))
        self._datasets[info.name] = dataset
        insort(self.names, info.name)
        self.changed()
        return info

    async def change(
        self,
        name: str,
        *,
        description: str | None = None,
        tags: Iterable[str] | None = None,
        visibility: Visibility | None = None,
        mock: str | None = None,
    ) -> DatasetInfo:
        """Describe a dataset anew, or let others see more or less of it. `mock`: a file's digest, or empty for none.

        Raises:
            DatasetNotFound: there is no such dataset.
            DatasetRefused: the description breaks a rule, or the mock has other tensors.
        """
        before = self.dataset(name)
        info = before.info
        if description is not None or tags is not None:
            said = info.description if description is None else description
            info = check_info(replace(info, description=said, tags=info.tags if tags is None else tidy_tags(tags)))
        if len({*self.tags(), *info.tags}) > MAX_TAGS:
            raise DatasetRefused(f"a node can have {MAX_TAGS} different tags")
        if mock:
            layout, _ = await asyncio.to_thread(_layout, self._blobs.path(mock))
            _check_mock(info, layout)
        after = Dataset(
            info, before.digest, before.size, visibility or before.visibility, before.mock if mock is None else mock
        )
        await self._database.write(partial(store.change, dataset=after))
        self._datasets[name] = after
        if before.mock and before.mock != after.mock:
            await self.discard(before.mock)
        self.changed()
        return info

    async def remove(self, name: str) -> None:
        """Forget a dataset and delete its files, if no other dataset is the same file. Raises DatasetNotFound."""
        dataset = await self._database.write(partial(store.remove, name=name))
        self._datasets.pop(name, None)
        self.names.remove(name)
        for digest in filter(None, {dataset.digest, dataset.mock}):
            await self.discard(digest)
        self.changed()

    async def discard(self, digest: str) -> None:
        """Delete a file of the node's own store, if no dataset is it."""
        if not await self._database.read(partial(store.uses, digest=digest)):
            await asyncio.to_thread(self._blobs.delete, digest)

    def draft(self) -> Draft:
        """A file of tensors to be, in the node's own store."""
        return self._blobs.create()

    # --- the data itself: for the node's workers and its owner ------------------------------------

    def path_of(self, name: str) -> Path:
        """The file of a dataset's tensors. Raises DatasetNotFound."""
        return self._blobs.path(self.dataset(name).digest)

    def mock_blocks(self, digest: str) -> tuple[int, AsyncIterator[memoryview]]:
        """The bytes of a mock, a file of tensors: how many, and the blocks; each is overwritten by the next."""
        path = self._blobs.path(digest)
        size = path.stat().st_size
        return size, _blocks(path, 0, size)

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
        return slot.spec.size, _blocks(path, offset + slot.begin, slot.spec.size)

    def dataset(self, name: str) -> Dataset:
        """One dataset as it is kept. Raises DatasetNotFound."""
        try:
            return self._datasets[name]
        except KeyError:
            raise DatasetNotFound(f"there is no dataset named {name}") from None


def _advertised(dataset: Dataset) -> bool:
    return dataset.visibility != "hidden"


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


def _check_mock(info: DatasetInfo, layout: Layout) -> None:
    """A plan that runs on the mock runs on the data: the same tensors, with as many rows as its owner likes."""
    told = {(tensor.name, tensor.dtype, tensor.shape[1:]) for tensor in info.tensors}
    held = {(spec.name, _STORED.get(spec.dtype, spec.dtype), spec.shape[1:]) for spec in layout.specs}
    if told != held or len({spec.shape[:1] for spec in layout.specs}) != 1:
        raise DatasetRefused("a mock has the tensors of its dataset, all with as many rows as one another")


async def _blocks(path: Path, begin: int, size: int) -> AsyncIterator[memoryview]:
    left, buffer = size, memoryview(bytearray(min(BLOCK, max(1, size))))
    with path.open("rb", buffering=0) as file:
        file.seek(begin)
        while left:
            read = await asyncio.to_thread(file.readinto, buffer[: min(len(buffer), left)])
            if not read:
                raise DatasetRefused("the file of tensors is shorter than it was")
            yield buffer[:read]
            left -= read
