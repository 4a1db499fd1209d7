"""What an officer is shown of a request: the plan, where it comes from, what it costs, and how it compares.

Source: PyGrid's roadmap (privacy_budgeting): x = c / b, this request's cost over the budget, and how average it is
against those that were approved.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from grid.client.payload import mapped
from grid.learning.plan import Plan
from grid.learning.sheet import sheet
from grid.learning.strategy import read_strategy
from grid.learning.study import Study, read_bundle
from grid.node.catalogue import Catalogue
from grid.node.checkpoints import BUNDLE
from grid.node.ledger import Ledger, curve_of
from grid.privacy.rdp import Curve
from grid.protocol.request import Request, likeness
from grid.store import requests as rows
from grid.store.blobs import Blobs
from grid.store.database import Database
from grid.wire.problems import RequestRefused
from grid.wire.requests import Cost, Evidence, Training

ASKED = "asked-"
"""Bundles of plans that are asked for are files of this name and their digest."""


class Witness:
    """Gathers evidence. Plans that were handed in lie in `blobs`; `software` is this program and its version."""

    def __init__(self, database: Database, catalogue: Catalogue, ledger: Ledger, blobs: Blobs, software: str) -> None:
        self._database, self._catalogue, self._ledger = database, catalogue, ledger
        self._blobs, self._software = blobs, software

    async def keep(self, training: Training) -> None:
        """Keep the plan that was handed in for a request. Raises RequestRefused: it was not."""
        with suppress(FileExistsError):
            try:
                handed_in = self._blobs.named(BUNDLE + training.plan)
                await asyncio.to_thread(os.link, handed_in, self._kept(training.plan))
            except FileNotFoundError:
                raise RequestRefused("its plan is not here: hand it in first (PUT /v1/bundles)") from None

    async def forget_all_but(self, plans: set[str]) -> None:
        """Nobody asks for other plans any more."""
        kept = {self._kept(plan) for plan in plans}
        for path in self._kept("x").parent.glob(ASKED + "*"):
            if path not in kept:
                await asyncio.to_thread(path.unlink, missing_ok=True)

    def _kept(self, plan: str) -> Path:
        return self._blobs.named(ASKED + plan)

    async def of(self, request: Request, signer: str) -> Evidence:
        """What is known of a request when it is made. Raises RequestRefused for a training whose plan is not here."""
        asked, dataset = request.asked, self._catalogue.dataset(request.asked.dataset)
        provenance = {"account": request.account, "dataset": dataset.digest, "software": self._software}
        if signer:
            provenance["key"] = signer
        figures: dict[str, float] = {"rows": float(dataset.info.examples)}
        if asked.tensor is not None:
            (shape,) = [each.shape for each in dataset.info.tensors if each.name == asked.tensor]
            figures["numbers"] = float(_product(shape))
            whole = sum(_product(each.shape) for each in dataset.info.tensors)
            figures["share-of-data"] = figures["numbers"] / max(1, whole)
        if asked.epsilon is not None:
            figures["epsilon"] = asked.epsilon
        if asked.training is None:
            return Evidence(provenance=provenance, figures=figures)
        plan = self.plan(asked.training)
        provenance |= {"plan": asked.training.plan, "asked": likeness(asked.training)}
        figures["rounds"] = float(asked.training.rounds)
        told: tuple[tuple[str, str], ...] = (("question", type(plan).__name__),)
        if isinstance(plan, Plan):
            shown = sheet(plan, dataset.info.examples, asked.training.rounds)
            told = tuple(shown.rows())
            figures |= {"parameters": float(plan.parameters), "warnings": float(len(shown.warnings))}
            if shown.per_record is not None:
                figures["parameters-per-record"] = shown.per_record
        return Evidence(sheet=told, provenance=provenance, figures=figures)

    async def now(self, request: Request) -> Evidence:
        """All that is known of a request at this moment."""
        asked = request.asked
        _, evidence = await self._database.read(partial(rows.get, number=request.id))
        history = await self._database.read(partial(rows.histories, account=request.account))
        past = await self._database.read(partial(rows.evidences, dataset=asked.dataset, kind=asked.kind))
        return replace(
            evidence,
            costs=await self._costs(request),
            average=average(evidence, past),
            history=history,
        )

    async def fits(self, request: Request) -> None:
        """Whether a training would fit into the budgets as they are. Raises BudgetSpent."""
        training = request.asked.training
        if training is not None:
            await self._ledger.check(request.asked.dataset, request.account, self._curve(training), training.rounds)

    async def _costs(self, request: Request) -> tuple[Cost, ...]:
        training = request.asked.training
        curve = None if training is None else self._curve(training)
        rounds = 0 if training is None else training.rounds
        return await self._ledger.costs(request.asked.dataset, request.account, curve, rounds)

    def _curve(self, training: Training) -> Curve | None:
        try:
            return curve_of(self.plan(training), read_strategy(training.strategy))
        except RequestRefused:  # it was asked for long ago
            return None

    def plan(self, training: Training) -> Plan | Study:
        """The plan of a training, or its question. Raises RequestRefused: it was not handed in here."""
        try:
            return read_bundle(mapped(self._kept(training.plan)))
        except OSError:
            raise RequestRefused("its plan is not kept here any more") from None

    @staticmethod
    def with_figures(evidence: Evidence, figures: dict[str, float], provenance: dict[str, str]) -> Evidence:
        """More was measured, or is known of where it comes from."""
        return replace(evidence, figures=evidence.figures | figures, provenance=evidence.provenance | provenance)


def average(evidence: Evidence, past: list[Evidence]) -> dict[str, float]:
    """For each figure, the share of those of the `past` that had less of it, half of those that had as much counted."""
    compared = {}
    for name, value in evidence.figures.items():
        others = [each.figures[name] for each in past if name in each.figures]
        if others:
            less = sum(each < value for each in others) + sum(each == value for each in others) / 2
            compared[name] = less / len(others)
    return compared


def _product(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
