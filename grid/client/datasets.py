"""A dataset as whoever found it sees it: described, with a mock to try plans on, and its tensors where permitted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from grid.client.calls import Calls
from grid.client.mock import array_of, arrays_of, made
from grid.client.payload import gather
from grid.client.requests import AsyncRequest, Office, ask
from grid.crypto.identity import public_from_id
from grid.learning.plan import Plan
from grid.wire.node import DATASETS, TENSOR, DatasetInfo, Page
from grid.wire.permissions import MOCK, Action
from grid.wire.problems import DatasetNotFound, NotFound, TensorsRefused
from grid.wire.requests import Ask

LARGEST = 4 * 1024**3
"""Bytes of a tensor, or of a mock, that are taken into memory at most."""


class AsyncDataset:
    """A dataset of the node at `address`, whose key (id) is `node_key` if that is known."""

    def __init__(self, calls: Calls, node: str, address: str, node_key: str | None, info: DatasetInfo) -> None:
        self._calls, self.node, self.address, self.info = calls, node, address, info
        self._peer = None if node_key is None else public_from_id(node_key)

    @property
    def name(self) -> str:
        """By what its node knows it."""
        return self.info.name

    @property
    def tags(self) -> tuple[str, ...]:
        """The words that it is found by."""
        return self.info.tags

    @property
    def examples(self) -> int:
        """Rows of each tensor."""
        return self.info.examples

    async def mock(self, rows: int | None = None, seed: int = 0) -> dict[str, Any]:
        """Arrays like those of the dataset, with nobody's data in them: by its owner, or made from its description.

        `rows` and `seed` are of those that are made.
        """
        try:
            download = self._calls.download(self.address, MOCK, peer=self._peer, limit=LARGEST, name=self.name)
            async with download as (_, blocks):
                return arrays_of(memoryview(await gather(blocks, LARGEST)))
        except DatasetNotFound:
            raise
        except NotFound:
            return made(self.info, rows, seed)

    async def try_plan(self, plan: Plan, inputs: Sequence[str] = ("features",), target: str = "") -> dict[str, float]:
        """Train a plan on the mock, in this process, for one round: loss, metrics and steps. See `learning.trial`.

        Raises:
            PlanRefused: it does not fit this dataset, and no node would take it.
        """
        arrays = await self.mock()
        tried = import_module("grid.learning.trial").tried
        found: dict[str, float] = await asyncio.to_thread(tried, plan, arrays, inputs, target or self.info.target or "")
        return found

    async def tensor(self, name: str) -> Any:
        """One tensor, as an array.

        Raises:
            DatasetNotFound: there is no such tensor that the caller may find.
            NotAllowed: the caller may not have it.
            BudgetSpent: what leaves of the dataset is under differential privacy alone.
        """
        found = [each for each in self.info.tensors if each.name == name]
        if not found:
            raise DatasetNotFound(f"dataset {self.name} has no tensor {name}")
        download = self._calls.download(
            self.address, TENSOR, peer=self._peer, limit=LARGEST, name=self.name, tensor=name
        )
        async with download as (_, blocks):
            data = await gather(blocks, LARGEST)
        try:
            return array_of(data, found[0])
        except ValueError as error:
            raise TensorsRefused(f"what came is not {name}: {error}") from None

    async def request_access(
        self,
        reason: str,
        *,
        tensor: str | None = None,
        action: Action = "train",
        epsilon: float | None = None,
        model: str | None = None,
    ) -> AsyncRequest:
        """Ask for the download of a `tensor`; for so much `epsilon` more of the budget; else for an `action`.

        Or for a `model` that learned from it: to see it, and so to ask it about rows.

        Raises:
            NotAllowed: there is no account for the caller at this node.
            RequestRefused: this cannot be asked for.
        """
        office = Office(self.address, self._peer)
        if tensor is not None:
            return await ask(self._calls, office, Ask("download", self.name, reason, tensor=tensor))
        if epsilon is not None:
            return await ask(self._calls, office, Ask("budget", self.name, reason, epsilon=epsilon))
        if model is not None:
            return await ask(self._calls, office, Ask("inference", self.name, reason, model=model))
        return await ask(self._calls, office, Ask("permission", self.name, reason, action=action))


async def all_datasets(calls: Calls, address: str, peer: bytes | None) -> list[DatasetInfo]:
    """All datasets of a node that the caller may find, in order of name, page after page."""
    found: list[DatasetInfo] = []
    while True:
        after = found[-1].name if found else ""
        page = await calls.call(address, DATASETS, peer=peer, query=Page(after, 1000), limit=LISTING)
        found += page.datasets
        if not page.more or not page.datasets:
            return found


LISTING = 256 * 1024**2
"""Bytes of one page of descriptions."""
