"""A run as its scientist sees it: watch it, stop it, get what it learned."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from grid.client.calls import Calls
from grid.client.payload import open_tensors
from grid.client.tables import html_table, metrics, size
from grid.crypto.envelope import Context
from grid.crypto.identity import Identity, public_from_id
from grid.crypto.prekeys import Prekey, publish
from grid.crypto.sealing import Opener
from grid.learning.plan import Plan
from grid.learning.scheme import Scheme
from grid.learning.strategy import read_strategy
from grid.wire.problems import RunRefused, Unreachable
from grid.wire.runs import CHECKPOINT, RUN, RUN_EVENTS, STOP_RUN, After, Event, Fetch, RunInfo, Task

WAIT = 25.0
BREATH = 0.05
"""Seconds for which a watcher lets things happen before it asks again: quick rounds would else be a quarter
slower for telling of each event by itself."""
PREKEY_LIFE = 3600.0
PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds between tries to reach a coordinator that does not answer."""


@dataclass(frozen=True)
class RoundLine:
    """One round: how many nodes and examples were counted, what it moved (bytes) and took (seconds).

    `metrics` are the means over the nodes' held-out examples of the checkpoint that it made, once they are known.
    """

    round: int
    accepted: int
    examples: int
    seconds: float
    bytes: int
    failed: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What a run came to: the plan with what was learned in it, and how it went, round by round."""

    plan: Plan
    history: tuple[RoundLine, ...]
    skipped: tuple[str, ...] = ()

    @property
    def metrics(self) -> dict[str, float]:
        """The last checkpoint on the nodes' held-out examples, weighted by their number."""
        return next((line.metrics for line in reversed(self.history) if line.metrics), {})

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name} {value:.4f}" for name, value in self.metrics.items())
        return f"Result({len(self.history)} rounds, {numbers or 'not evaluated'})"

    def _repr_html_(self) -> str:
        head = ("round", "metrics", "nodes", "examples", "bytes", "seconds", "without")
        return html_table(
            head,
            [
                (
                    str(n.round),
                    metrics(n.metrics),
                    str(n.accepted),
                    str(n.examples),
                    size(n.bytes),
                    f"{n.seconds:.2f}",
                    ", ".join(n.failed),
                )
                for n in self.history
            ],
        )


class History:
    """The rounds of a run, put together from its events."""

    def __init__(self) -> None:
        self._lines: dict[int, RoundLine] = {}

    def hear(self, event: Event) -> RoundLine | None:
        """Take in an event; the line of a round, when it has become complete or changed."""
        number, data = int(event.data.get("round", 0)), event.data
        if event.kind == "round-closed":
            self._lines[number] = RoundLine(
                number,
                data["accepted"],
                int(data["examples"]),
                data["seconds"],
                sum(data["bytes"].values()),
                {**data["failed"], **data["rejected"]},
            )
        elif event.kind == "evaluated" and number in self._lines:
            self._lines[number] = _measured(self._lines[number], data["metrics"])
        else:
            return None
        return self._lines[number]

    def lines(self) -> tuple[RoundLine, ...]:
        """All rounds so far, in order."""
        return tuple(self._lines[number] for number in sorted(self._lines))


def _measured(line: RoundLine, metrics: dict[str, float]) -> RoundLine:
    return RoundLine(line.round, line.accepted, line.examples, line.seconds, line.bytes, line.failed, dict(metrics))


class AsyncRun:
    """One run at its coordinator. Made by `Grid.train`."""

    def __init__(
        self,
        calls: Calls,
        identity: Identity,
        address: str,
        task: Task,
        plan: Plan,
        now: Callable[[], float],
        skipped: tuple[str, ...] = (),
    ) -> None:
        self._calls, self._identity, self._address, self._now = calls, identity, address, now
        self._peer = public_from_id(task.coordinator)
        self.task, self.plan, self.skipped = task, plan, skipped
        self.history = History()

    @property
    def id(self) -> str:
        """The run's id."""
        return self.task.run

    async def info(self) -> RunInfo:
        """Where it stands now."""
        return await self._calls.call(self._address, RUN, peer=self._peer, run=self.id)

    async def stop(self) -> RunInfo:
        """End it; what it learned so far stays."""
        return await self._calls.call(self._address, STOP_RUN, peer=self._peer, run=self.id)

    async def watch(self, after: int = 0) -> AsyncIterator[Event]:
        """Everything that happens, from the beginning, until the run is over. Survives a short absence."""
        failures = 0
        while True:
            try:
                events = await self._calls.call(
                    self._address, RUN_EVENTS, query=After(after, WAIT), peer=self._peer, run=self.id
                )
            except Unreachable:
                if failures == len(PAUSES):
                    raise
                await asyncio.sleep(PAUSES[failures])
                failures += 1
                continue
            failures, after = 0, events.after
            for event in events.events:
                self.history.hear(event)
                yield event
                if event.kind == "run-ended":
                    return
            await asyncio.sleep(BREATH)

    async def result(self, on_event: Callable[[Event, History], None] | None = None) -> Result:
        """Wait for the end, then fetch the newest checkpoint.

        Raises:
            RunRefused: the run failed or was stopped; the detail says why.
        """
        end: dict[str, Any] = {}
        async for event in self.watch():
            if on_event is not None:
                on_event(event, self.history)
            end = event.data
        if end["state"] != "success":
            raise RunRefused(f"the run ended as {end['state']}: {end['reason']}")
        return Result(await self.checkpoint(), self.history.lines(), self.skipped)

    async def checkpoint(self) -> Plan:
        """The plan with the parameters of the newest checkpoint."""
        prekey, now = Prekey.generate(), self._now()
        fetch = Fetch(publish(self._identity, prekey, now, now + PREKEY_LIFE))
        context = Context(run=self.id, round=0, kind="checkpoint", sender=self._peer, direct=True)
        opener = Opener(self._identity.public, {prekey.id: prekey}.get, context, now)
        scheme = Scheme(self.plan, read_strategy(self.task.strategy))
        learned = memoryview(bytearray(scheme.model.size))
        async with self._calls.download(self._address, CHECKPOINT, fetch, peer=self._peer, run=self.id) as (_, blocks):
            await open_tensors(opener, blocks, scheme.model, learned)
        return self.plan.trained(scheme.plain(learned))
