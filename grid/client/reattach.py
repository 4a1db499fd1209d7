"""A run that another process began: its task and plan, asked of the coordinator, believed for what they prove."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from grid.client.calls import Calls
from grid.client.payload import gather
from grid.client.run import PREKEY_LIFE, AsyncRun
from grid.crypto.envelope import Context
from grid.crypto.identity import Identity, public_from_id
from grid.crypto.prekeys import Prekey, publish
from grid.crypto.sealing import Opener
from grid.learning.study import read_bundle
from grid.protocol.documents import read_document
from grid.wire.problems import RunRefused
from grid.wire.runs import BUNDLE_LIMIT, RUN_PLAN, RUN_TASK, TASK, Fetch, Task


class Driver(Protocol):
    """The node that drives, or drove, the run."""

    @property
    def address(self) -> str:
        """Where it answers."""

    @property
    def public_key(self) -> str:
        """Its key, wire form."""


async def attach(calls: Calls, identity: Identity, driver: Driver, run: str, now: Callable[[], float]) -> AsyncRun[Any]:
    """The run `run`, as its task says that was signed, with the plan that the task names.

    Raises:
        RunNotFound: there is no such run of the caller's, or its plan is not kept.
        BadSignature, RunRefused: the coordinator gives another task, or another plan.
    """
    peer = public_from_id(driver.public_key)
    signed = await calls.call(driver.address, RUN_TASK, peer=peer, run=run)
    task = read_document(signed, Task, TASK)
    if (task.run, task.coordinator) != (run, driver.public_key):
        raise RunRefused("the coordinator gives the task of another run")
    plan = read_bundle(await _plan(calls, identity, driver.address, task, now()))
    if plan.digest != task.plan:
        raise RunRefused("the coordinator gives another plan than the one that the task names")
    return AsyncRun(calls, identity, driver.address, task, plan, now)


async def _plan(calls: Calls, identity: Identity, address: str, task: Task, now: float) -> bytes:
    """The bundle of the plan, opened."""
    peer, prekey = public_from_id(task.coordinator), Prekey.generate()
    fetch = Fetch(publish(identity, prekey, now, now + PREKEY_LIFE))
    context = Context(run=task.run, round=0, kind="bundle", sender=peer, direct=True)
    opener = Opener(identity.public, {prekey.id: prekey}.get, context, now)
    async with calls.download(address, RUN_PLAN, fetch, peer=peer, run=task.run) as (_, blocks):
        return opener.feed(await gather(blocks, BUNDLE_LIMIT)) + opener.finish()
