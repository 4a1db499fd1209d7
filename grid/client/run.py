"""A run as its scientist sees it: watch it, stop it, get what it learned."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

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
from grid.learning.study import Study
from grid.protocol.stopping import judge
from grid.wire.problems import NotReleased, RunRefused, Unreachable
from grid.wire.runs import (
    CHECKPOINT,
    RUN,
    RUN_EVENTS,
    RUN_METRICS,
    STOP_RUN,
    After,
    Event,
    Events,
    FetchCheckpoint,
    Measured,
    NodeMetrics,
    RunInfo,
    Since,
    Stopping,
    Task,
)

B = TypeVar("B", Plan, Study)

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

    `metrics` are the means over the nodes' held-out examples of the checkpoint that it made, once they are known;
    `by_node` what each node measured of it, where that was asked for (`AsyncRun.catch_up`).
    """

    round: int
    accepted: int
    examples: int
    seconds: float
    bytes: int
    failed: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    by_node: dict[str, dict[str, float]] = field(default_factory=dict)
    epsilon: float | None = None


@dataclass(frozen=True)
class Result(Generic[B]):
    """What a run came to: the plan with what was learned in it, and how it went, round by round.

    Of an analysis, `plan` is the study with its answer.

    If its task has a rule for stopping, `best` is the plan with the best checkpoint by that rule, that of round
    `best_round`; `reason` says why the run ended before its last round, if it did.
    """

    plan: B
    history: tuple[RoundLine, ...]
    skipped: tuple[str, ...] = ()
    best: B | None = None
    best_round: int = 0
    reason: str = ""

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
                epsilon=data.get("privacy", {}).get("epsilon"),
            )
        elif event.kind == "evaluated" and number in self._lines:
            self._lines[number] = replace(self._lines[number], metrics=dict(data["metrics"]))
        else:
            return None
        return self._lines[number]

    def of_nodes(self, reports: Iterable[NodeMetrics]) -> None:
        """Take in what each node measured."""
        for report in reports:
            if line := self._lines.get(report.round):
                self._lines[report.round] = replace(line, by_node={**line.by_node, report.node_id: report.metrics})

    def best(self, rule: Stopping | None) -> int:
        """The round whose checkpoint is the best so far, by a task's rule; 0 if it has none."""
        if rule is None:
            return 0
        measured = [(line.round, line.metrics.get(rule.metric, math.nan)) for line in self.lines() if line.metrics]
        return judge(rule, measured).best

    def lines(self) -> tuple[RoundLine, ...]:
        """All rounds so far, in order."""
        return tuple(self._lines[number] for number in sorted(self._lines))


class AsyncRun(Generic[B]):
    """One run at its coordinator. Made by `Grid.train`, and by `Grid.run` for one that goes on already, or is over."""

    def __init__(
        self,
        calls: Calls,
        identity: Identity,
        address: str,
        task: Task,
        plan: B,
        now: Callable[[], float],
        skipped: tuple[str, ...] = (),
    ) -> None:
        self._calls, self._identity, self._address, self._now = calls, identity, address, now
        self._peer = public_from_id(task.coordinator)
        self.plan: B = plan
        self.task, self.skipped = task, skipped
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
                events = await self._events(After(after, WAIT))
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

    async def result(self, on_event: Callable[[Event, History], None] | None = None) -> Result[B]:
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
        newest, lines, best = await self.checkpoint(), self.history.lines(), self.history.best(self.task.stop)
        if best and best != lines[-1].round:
            return Result(newest, lines, self.skipped, await self.checkpoint(best), best, end["reason"])
        return Result(newest, lines, self.skipped, newest if best else None, best, end["reason"])

    async def catch_up(self) -> History:
        """The rounds until now, with what each node measured."""
        after = since = 0
        while (told := await self._events(After(after))).events:
            after = told.after
            for event in told.events:
                self.history.hear(event)
        while reports := (await self._metrics(since)).reports:
            self.history.of_nodes(reports)
            since = reports[-1].round + 1
        return self.history

    async def _events(self, query: After) -> Events:
        return await self._calls.call(self._address, RUN_EVENTS, query=query, peer=self._peer, run=self.id)

    async def _metrics(self, since: int) -> Measured:
        return await self._calls.call(self._address, RUN_METRICS, query=Since(since), peer=self._peer, run=self.id)

    async def get(self) -> B:
        """What the run has learned, once it is over and, where it is held, every node has released it.

        Raises:
            RunRefused: the run failed or was stopped.
        """
        cursor = 0
        try:
            return (await self.result()).plan
        except NotReleased:
            while True:
                cursor = (await self._events(After(cursor, WAIT))).after  # somebody may have released it
                with suppress(NotReleased):
                    return await self.checkpoint()

    async def checkpoint(self, round: int = 0) -> B:  # noqa: A002 - the word for it
        """The plan with the parameters of the newest checkpoint, or of the one that a round made.

        Raises:
            NotReleased: the run is held, and somebody has not released it.
            RunNotFound: there is none yet, or it is no longer kept: the newest two are, and the best one.
        """
        prekey, now = Prekey.generate(), self._now()
        fetch = FetchCheckpoint(publish(self._identity, prekey, now, now + PREKEY_LIFE), round)
        context = Context(run=self.id, round=round, kind="checkpoint", sender=self._peer, direct=True)
        opener = Opener(self._identity.public, {prekey.id: prekey}.get, context, now)
        scheme = Scheme(self.plan, read_strategy(self.task.strategy))
        learned = memoryview(bytearray(scheme.model.size))
        async with self._calls.download(self._address, CHECKPOINT, fetch, peer=self._peer, run=self.id) as (_, blocks):
            await open_tensors(opener, blocks, scheme.model, learned)
        return self.plan.trained(scheme.plain(learned))
