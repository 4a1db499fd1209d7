"""A model that a node hosts, as whoever sees it does: asked about rows there, or fetched, as its owner allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grid.client.calls import Calls
from grid.client.mock import bytes_of, numbers_of
from grid.client.payload import gather, streamed
from grid.client.requests import Office
from grid.learning.plan import MAX_BUNDLE, Plan
from grid.wire import models as wire
from grid.wire.problems import ModelNotFound, TensorsRefused


class AsyncModel:
    """A model of the node at `office`. Made by `Grid.models`."""

    def __init__(self, calls: Calls, office: Office, info: wire.ModelInfo) -> None:
        self._calls, self._office, self.info = calls, office, info

    @property
    def name(self) -> str:
        """By what its node knows it."""
        return self.info.model

    async def predict(self, rows: Any, *, variant: str = "", checkpoint: str = "") -> Any:
        """What it answers for rows, as an array (n, ...), computed at its node.

        `rows`: an array (n, ...), or arrays by the names of the plan's inputs. The variant and checkpoint to begin
        with answer, unless others are named. Where answers cost, they are labels (n,), told by randomized response.

        Raises:
            NotAllowed: it does not answer.
            BudgetSpent: they cost more than what is left of a budget.
            PlanRefused, TooLarge: the rows are not what its plan takes, or too many at a time.
        """
        file = bytes_of(rows if isinstance(rows, Mapping) else {"features": rows})
        told = await self._calls.upload(
            self._office.address,
            wire.PREDICT,
            streamed(file),
            length=sum(map(len, file)),
            query=wire.Which(variant, checkpoint),
            peer=self._office.peer,
            model=self.name,
        )
        try:
            return numbers_of(told.dtype, told.shape, told.data)
        except ValueError as error:
            raise TensorsRefused(f"what came is no answer: {error}") from None

    async def download(self, *, variant: str = "", checkpoint: str = "") -> Plan:
        """Its plan with the values of a checkpoint: of the one to begin with, unless another is named.

        Raises:
            NotAllowed: it may not be downloaded.
            ModelNotFound, PlanRefused: there is no such checkpoint, or no plan in it.
        """
        chosen = variant or self.info.canonical or next(iter(self.info.variants), "")
        if not chosen:
            raise ModelNotFound(f"model {self.name} has no variant yet")
        where: dict[str, Any] = {"model": self.name, "variant": chosen}
        if not checkpoint:
            there = await self._calls.call(self._office.address, wire.VARIANT, peer=self._office.peer, **where)
            checkpoint = there.canonical
        download = self._calls.download(
            self._office.address,
            wire.CHECKPOINT_FILE,
            peer=self._office.peer,
            limit=MAX_BUNDLE,
            checkpoint=checkpoint,
            **where,
        )
        async with download as (_, blocks):
            return Plan.from_bundle(await gather(blocks, MAX_BUNDLE))

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {hosted(self.info.hosting)})"


async def all_models(calls: Calls, office: Office) -> list[AsyncModel]:
    """All models of a node that the caller may see, in order of name, page after page."""
    found: list[AsyncModel] = []
    while page := (
        await calls.call(
            office.address, wire.MODELS, peer=office.peer, query=wire.ModelPage(found[-1].name if found else "", 100)
        )
    ).models:
        found += [AsyncModel(calls, office, info) for info in page]
    return found


def hosted(said: wire.Hosting) -> str:
    """What those who see a model may have of it, in words."""
    files = "may be downloaded" if said.downloads else "may not be downloaded"
    if not said.predicts:
        return f"{files}, does not answer"
    cost = f", each costs epsilon {said.epsilon:g} of {said.dataset}" if said.dataset else ""
    return f"{files}, answers for {said.most_rows} rows at a time{cost}"
