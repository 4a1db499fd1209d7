"""What to measure a federated training by: each share alone, and all shares in one place.

The same plan, first parameters, number of local fits and seeds as at a participant, in the same kind of
worker; only the averaging is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path

from grid.cli import digits
from grid.learning.plan import Plan
from grid.worker.engine import Engine, TrainJob


class Yardstick:
    """Trains `plan` and measures models on the scans `test`, in workers of this machine. Writes to `folder`."""

    def __init__(self, engine: Engine, plan: Plan, test: digits.Share, folder: Path) -> None:
        self._engine, self._plan, self._folder = engine, plan, folder
        self._numbers = count(1)
        self._bundle = folder / "plan.safetensors"
        self._bundle.write_bytes(plan.bundle())
        self._test = self._written(test)

    async def train(self, share: digits.Share, rounds: int, *, holdout: float, seed: int) -> bytes:
        """A model that saw these scans only, but for the part that a participant holds out as well."""
        size = self._plan.layout.size
        seat = await self._engine.open(self._job(self._written(share), holdout, seed))
        try:
            seat.inbox[:size] = self._plan.initial
            for number in range(1, rounds + 1):
                await seat.call("fit", round=number, seed=seed + number)
                seat.inbox[:size] = seat.outbox[:size]
            return bytes(seat.inbox[:size])
        finally:
            await seat.close()

    async def accuracy(self, model: bytes) -> float:
        """The share of the test scans that a model reads right."""
        seat = await self._engine.open(self._job(self._test, holdout=0.0, seed=0))
        try:
            seat.inbox[: len(model)] = model
            measured = await seat.call("evaluate", split="train")
            return float(measured["metrics"]["accuracy"])
        finally:
            await seat.close()

    def _written(self, scans: Sequence[digits.Scan]) -> Path:
        path = self._folder / f"scans-{next(self._numbers)}.safetensors"
        digits.write_tensors(scans, path)
        return path

    def _job(self, tensors: Path, holdout: float, seed: int) -> TrainJob:
        return TrainJob(self._bundle, tensors, ("features",), "target", holdout=holdout, seed=seed)
