"""Results that wait: a held run's checkpoints are handed out once every node that took part has released them.

The node that drove the run keeps them until then. A node whose dataset has a gate makes a request of it, on which an
officer decides; the others release at once. Either way the coordinator is told until it has heard.
"""

from __future__ import annotations

import asyncio
import logging

from grid.crypto.identity import public_from_id
from grid.node.means import Means
from grid.node.spending import PAID
from grid.protocol.documents import read_document
from grid.wire.problems import GridError, NotInvited, NotReleased, RunNotFound
from grid.wire.runs import RELEASE, TASK, After, Task

log = logging.getLogger(__name__)

AGAIN = 60.0
"""Seconds after which a coordinator that could not be reached is told again."""
_FIGURES = ("loss", "norm", "record-epsilon", "epsilon")


class Releasing:
    """Tells coordinators what this node has released."""

    def __init__(self, means: Means) -> None:
        self._means, self._bell = means, asyncio.Event()
        means.requests.released = self._ring

    async def over(self, task: Task, address: str, dataset: str, account: str) -> None:
        """This node's part in a held run is over: a request is made of it, or it is released at once."""
        figures = await self._figures(task.run)
        where = {"coordinator": task.coordinator, "coordinator-address": address, "plan": task.plan, "run": task.run}
        gated = self._means.gates.of(dataset).release
        await self._means.requests.ask_release(task.run, account, dataset, figures, where, at_once=not gated)

    async def keep(self) -> None:
        """Tell coordinators, as long as there is something to tell."""
        while True:
            self._bell.clear()
            waiting = [await self._tell(run, where) for run, where in await self._means.requests.to_release()]
            try:
                async with asyncio.timeout(None if all(waiting) else AGAIN):
                    await self._bell.wait()
            except TimeoutError:
                continue

    async def _ring(self, _: str) -> None:
        self._bell.set()

    async def _tell(self, run: str, where: dict[str, str]) -> bool:
        """Whether the coordinator of a run has heard, or there is none any more."""
        address, peer = where["coordinator-address"], public_from_id(where["coordinator"])
        try:
            await self._means.calls.call(address, RELEASE, peer=peer, run=run)
        except (RunNotFound, NotInvited) as gone:
            log.warning("run %s was released, and its coordinator knows of none: %s", run, gone.detail)
        except GridError as error:
            log.info("run %s is released; its coordinator is told again: %s", run, error.detail)
            return False
        await self._means.requests.was_released(run)
        return True

    async def _figures(self, run: str) -> dict[str, float]:
        """What this node's journal says of its part: rounds, the last loss, norm and cost."""
        events = (await self._means.records.part_events(run, After())).events
        trained = [event.data for event in events if event.kind in {"trained", PAID}]
        figures = {"rounds": float(sum(event.kind == "trained" for event in events))}
        for data in trained:
            figures |= {f"last-{name}": float(data[name]) for name in _FIGURES if name in data}
        return figures


class Keeper:
    """The coordinator's side: who has released which run that this node drove."""

    def __init__(self, means: Means) -> None:
        self._means = means

    async def released(self, run: str, key: str) -> None:
        """A node that took part says that it releases. Raises RunNotFound, NotInvited."""
        names = await self._means.records.names(run)
        if not names:
            raise RunNotFound
        if key not in names:
            raise NotInvited("only those who took part in a run release it")
        await self._means.records.released(run, key, names[key])

    async def check(self, run: str) -> None:
        """Whether the checkpoints of a run may be handed out. Raises NotReleased, RunNotFound."""
        task = read_document(await self._means.records.task(run), Task, TASK)
        if not task.held:
            return
        left = await self._means.records.unreleased(run)
        if left:
            raise NotReleased(f"{', '.join(sorted(left))} has not released this run", retry_after=AGAIN)
