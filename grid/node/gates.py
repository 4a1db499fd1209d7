"""The gates of a dataset: runs that an officer admits before they begin, results that one releases afterwards."""

from __future__ import annotations

from functools import partial

from grid.node.access import Access
from grid.node.catalogue import Catalogue
from grid.node.requests import Requests
from grid.store import requests as rows
from grid.store.database import Database
from grid.wire.problems import NotAdmitted
from grid.wire.requests import GateSetting, Training
from grid.wire.runs import Task

OPEN = GateSetting()


class Gates:
    """What the owners of datasets want looked at. `me` is this node's key (id)."""

    def __init__(self, database: Database, catalogue: Catalogue, access: Access, requests: Requests, me: str) -> None:
        self._database, self._catalogue, self._access, self._requests = database, catalogue, access, requests
        self._me = me
        self._settings = database.read_now(rows.gates)

    def of(self, dataset: str) -> GateSetting:
        """The gates of a dataset. Raises DatasetNotFound."""
        self._catalogue.dataset(dataset)
        return self._settings.get(dataset, OPEN)

    async def set(self, dataset: str, setting: GateSetting) -> None:
        """Other gates. Raises DatasetNotFound."""
        self._catalogue.dataset(dataset)
        await self._database.write(partial(rows.set_gates, dataset=dataset, setting=setting))
        self._settings[dataset] = setting

    async def admit(self, task: Task, dataset: str, signer: str) -> None:
        """Whether a run may begin here.

        Raises:
            NotAdmitted: an officer has to say so first, or the result would not be kept until one releases it.
        """
        setting, asker = self.of(dataset), self._access.asker_of(signer)
        if setting.release:
            if not task.held:
                raise NotAdmitted(f"what is learned from {dataset} is released by an officer: the task must be held")
            if task.coordinator not in {self._me, *setting.keepers}:
                raise NotAdmitted(f"a run on {dataset} is driven by a node that keeps its result until it is released")
        if not setting.admission or asker.owner:
            return
        account = asker.account
        if account is None or not await self._requests.admitted(account, dataset, training_of(task), task.run):
            raise NotAdmitted(f"an officer admits runs on {dataset}: request this training, and start it when accepted")


def training_of(task: Task) -> Training:
    """What a task would do, as it is asked for in a request."""
    return Training(task.plan, task.rounds, task.inputs, task.target, task.holdout, task.strategy)
