"""What a coordinator hands out: the plan, and for each round the newest model, each sealed once for all."""

from __future__ import annotations

from pathlib import Path

from grid.node.broadcast import Broadcast
from grid.node.checkpoints import Checkpoints
from grid.node.collect import Collect
from grid.node.means import Means
from grid.store.spare import spare


class Offers:
    """Sealed payloads by the number of their round; the plan's is 0."""

    def __init__(self, means: Means, run: str, folder: Path, checkpoints: Checkpoints, collect: Collect) -> None:
        self._means, self._run, self._folder = means, run, folder
        self._checkpoints, self._collect = checkpoints, collect
        self._offered: dict[int, Broadcast] = {}
        self._ahead: dict[int, Broadcast] = {}
        self._spare: Path | None = None

    def get(self, number: int) -> Broadcast | None:
        """What is handed out for a round, if anything is."""
        return self._offered.get(number)

    async def plan(self, bundle: Path) -> None:
        """Hand out the plan."""
        header = self._means.header("bundle", self._run, 0)
        sealed = self._folder / "bundle.sealed"
        self._offered[0] = await Broadcast.seal(self._means.identity, header, bundle, sealed)

    async def model(self, number: int) -> None:
        """Hand out the newest checkpoint, to whoever takes part in round `number`."""
        if ahead := self._ahead.pop(number, None):
            self._offered[number] = ahead
            return
        source = await self._collect.broadcast(number - 1)
        self._offered[number] = await self._seal(number, source)
        if source != self._checkpoints.path(number - 1):
            source.unlink()

    async def seal_ahead(self, number: int, data: memoryview) -> None:
        """Seal the model for round `number`, from memory; nobody gets it before `model` hands it out.

        Its checkpoint is written meanwhile, which is why this need not wait for the disk. Where models travel in
        another form than they are kept in, `model` makes that later.
        """
        if self._collect.rounds_off:
            return
        self._ahead[number] = await self._seal(number, [memoryview(self._checkpoints.head), data])

    def withdraw(self, number: int) -> None:
        """Its round is over. Whoever is still reading reads on; else the next model is written over it."""
        path = self._offered.pop(number).path
        if self._spare is not None:
            self._spare.unlink(missing_ok=True)
        self._spare = spare(path, "model.spare")

    def close(self) -> None:
        """Hand out nothing any more."""
        for offered in (*self._offered.values(), *self._ahead.values()):
            offered.discard()
        self._offered.clear()
        self._ahead.clear()
        if self._spare is not None:
            self._spare.unlink(missing_ok=True)

    async def _seal(self, number: int, source: Path | list[memoryview]) -> Broadcast:
        header = self._means.header("model", self._run, number)
        target, over = self._folder / f"model-{number}.sealed", self._spare
        self._spare = None
        return await Broadcast.seal(self._means.identity, header, source, target, over)
