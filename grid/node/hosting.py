"""Models that answer: what their owners host at this node, who may ask, and what each answer costs.

Rows that come are spooled to disk and read by a worker in its sandbox, as is the plan. Neither is seen by the daemon.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from grid.node.means import Means
from grid.node.models import Models, called, has_plan, head_of, model_told, owned, seen
from grid.privacy.rdp import of_answers
from grid.store import models as store
from grid.store.blobs import Draft
from grid.store.database import Database
from grid.store.models import CheckpointRow, HostingRow
from grid.store.schema import Snapshot, Transaction
from grid.transport.auth import Caller
from grid.wire import models as wire
from grid.wire.problems import DatasetNotFound, ModelRefused, NotAllowed, TooLarge, WorkerLost
from grid.wire.rights import Right
from grid.worker.port import MIB, Limits, PredictJob

log = logging.getLogger(__name__)

LIMITS = Limits(memory=2048 * MIB, cpu=60.0, wall=60.0)
"""What one question may use of a worker."""
TRIES = 3
"""Workers that one question may use up."""
SECRET = 16


class Hosts:
    """Answers for rows by the models of this node: in its workers, and out of its budgets where that was said."""

    def __init__(self, database: Database, models: Models, means: Means) -> None:
        self._db, self._models, self._means = database, models, means

    async def host(self, caller: Caller, model: str, said: wire.Hosting) -> wire.ModelInfo:
        """Say what those who see a model may have of it.

        Raises:
            ModelNotFound: also where there is no such dataset that the caller may find.
            ModelRefused: a dataset without a cost, or a cost without a dataset.
            NotAllowed: the model is another's; or it would spend budgets that the caller does not manage.
        """
        if bool(said.dataset) != bool(said.epsilon):
            raise ModelRefused("answers cost an epsilon of a dataset: name both, or neither")
        if said.dataset:
            if not caller.has(Right.MANAGE_BUDGETS):
                raise NotAllowed("only those who manage budgets say what is spent of them")
            self._find(caller, said.dataset)
        row = msgspec.convert(said, HostingRow, from_attributes=True)

        def work(connection: Transaction) -> wire.ModelInfo:
            found = owned(connection, model, caller)
            store.put_hosting(connection, model, row)
            return model_told(connection, found)

        return await self._db.write(work)

    def _find(self, caller: Caller, dataset: str) -> None:
        try:
            self._means.permissions.info(self._means.access.asker(caller), dataset)
        except DatasetNotFound as missing:
            raise ModelRefused(missing.detail) from None

    async def predict(
        self, caller: Caller, model: str, which: wire.Which, blocks: AsyncIterable[bytes]
    ) -> wire.Prediction:
        """What a model answers for rows; paid for when this returns, and reserved before it is computed.

        Raises:
            ModelNotFound, NotAllowed: the caller may not see it, or not ask it.
            ModelRefused: it has no plan in it, or what came are no rows.
            TooLarge: more rows than its owner lets be asked about at a time.
            BudgetSpent: they cost more than what is left.
            PlanRefused, TensorsRefused: they are not what the plan takes.
            WorkerBusy, WorkerFailed
        """
        chosen, hosting = await self._db.read(lambda connection: self._asked(connection, caller, model, which))
        bundle = self._models.path(chosen)
        if not await asyncio.to_thread(has_plan, bundle):
            raise ModelRefused(f"checkpoint {chosen.name} has no plan in it, which would say what to compute")
        draft = self._models.draft(wire.ROWS_LIMIT)
        try:
            async for block in blocks:
                draft.write(block)
                del block  # see `transport.body.blocks`
            rows = await asyncio.to_thread(_rows, draft)
            if rows > hosting.most_rows:
                raise TooLarge(f"{rows} rows; model {model} answers for {hosting.most_rows} at a time")
            async with self._paid(caller, hosting, rows):
                answered, data = await self._answer(PredictJob(bundle, draft.path, LIMITS, called(caller)), hosting)
        finally:
            draft.abort()
        spent = rows * hosting.epsilon
        return wire.Prediction(chosen.name, answered["dtype"], tuple(answered["shape"]), data, spent)

    def _asked(
        self, connection: Snapshot, caller: Caller, model: str, which: wire.Which
    ) -> tuple[CheckpointRow, HostingRow]:
        row, _ = seen(connection, model, caller)
        hosting = store.hosting(connection, model)
        if not hosting.predicts:
            raise NotAllowed(f"model {model} does not answer here")
        named = which.variant or row.canonical or next((v.name for v in store.variants(connection, model)), "")
        variant = store.variant(connection, model, named)
        return store.checkpoint(connection, model, named, which.checkpoint or variant.canonical), hosting

    @asynccontextmanager
    async def _paid(self, caller: Caller, hosting: HostingRow, rows: int) -> AsyncIterator[None]:
        """Reserve what answers cost, and pay once they are there. A crash in between keeps it reserved."""
        if not hosting.dataset:
            yield
            return
        ledger, number = self._means.ledger, f"answers-{secrets.token_hex(16)}"
        cost = of_answers(hosting.epsilon, rows)
        await ledger.reserve(number, hosting.dataset, called(caller), cost, 1)
        try:
            yield
            await ledger.pay(number, hosting.dataset)
        finally:
            await ledger.settle_answers(number, hosting.dataset, called(caller))

    async def _answer(self, job: PredictJob, hosting: HostingRow) -> tuple[dict[str, Any], bytes]:
        """Have it computed. A worker that dies in it costs time: another begins anew."""
        for left in reversed(range(TRIES)):
            seat = await self._means.trainer.open(job)
            try:
                secret = os.urandom(SECRET) if hosting.epsilon else b""
                done = await seat.call("predict", epsilon=hosting.epsilon, secret=secret)
                return done, bytes(seat.outbox[: done["bytes"]])
            except WorkerLost as lost:
                if not left:
                    raise
                log.warning("an answer: %s; another worker begins anew", lost.detail)
            finally:
                await seat.close()
        raise AssertionError("unreachable")


def _rows(draft: Draft) -> int:
    """How many rows a file of tensors is about: of its longest one. Raises ModelRefused if it is none."""
    draft.cut()
    with Path(draft.path).open("rb", buffering=0) as file:
        layout, _, _ = head_of(file)
    return max((spec.shape[0] for spec in layout.specs if spec.shape), default=0)
