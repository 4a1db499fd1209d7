"""A run as its scientist follows it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientSession, web

from grid.client import run as module
from grid.client.calls import Calls
from grid.client.run import AsyncRun, History, Result, RoundLine
from grid.crypto.identity import Identity
from grid.transport import body
from grid.transport.app import create_app
from grid.transport.auth import Authenticator
from grid.transport.hello import session_handler
from grid.transport.metrics import Metrics
from grid.transport.serve import running
from grid.wire.problems import RunRefused, Unreachable
from grid.wire.runs import RUN_EVENTS, Event, Events, Task
from grid.wire.session import SESSION
from tests.grid_of_nodes import SCIENTIST, ANode, Learner, Scientist, plan_of

StartNode = Callable[..., Awaitable[ANode]]

COORDINATOR = Identity.from_seed(b"coordinator".ljust(32))


def told(cursor: int, kind: str, **data: Any) -> Event:
    return Event(cursor, kind, 0.0, data)


END = told(9, "run-ended", state="failed", reason="no one came")


def a_task() -> Task:
    return Task("0" * 32, plan_of().digest, COORDINATOR.id, ("#pulse",), 0.0, 1e10)


class Patchy:
    """A coordinator that breaks off some of its answers: one entry of `answers` for each poll."""

    def __init__(self, *answers: tuple[Event, ...] | None) -> None:
        self.answers = list(answers)
        self.asked: list[int] = []

    def app(self) -> web.Application:
        auth = Authenticator(COORDINATOR, time.time)
        routes = {SESSION: session_handler(auth), RUN_EVENTS: self._events}
        return create_app(routes, auth=auth, metrics=Metrics(), about="Patchy")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        after = body.query(request, RUN_EVENTS).after
        self.asked.append(after)
        events = self.answers.pop(0)
        if events is None:
            return web.Response(status=502, text="a proxy says: nobody there")
        cursor = events[-1].cursor if events else after
        return body.reply(RUN_EVENTS, Events(events, cursor), request=request)


async def test_a_coordinator_that_is_away_for_a_moment_is_waited_for_and_nothing_is_missed(
    connections: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSES", (0.001, 0.001))
    patchy = Patchy((told(1, "preparing"),), None, None, (), None, (told(2, "prepared"),), None, (END,))
    calls = Calls(connections, identity=SCIENTIST)

    async with running(patchy.app()) as address:
        run = AsyncRun(calls, SCIENTIST, address, a_task(), plan_of(), time.time)
        kinds = [event.kind async for event in run.watch()]

    assert kinds == ["preparing", "prepared", "run-ended"]
    assert patchy.asked == [0, 1, 1, 1, 1, 1, 2, 2]


async def test_a_coordinator_that_stays_away_is_given_up(
    connections: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSES", (0.001, 0.001))
    patchy = Patchy(None, None, None)
    calls = Calls(connections, identity=SCIENTIST)

    async with running(patchy.app()) as address:
        with pytest.raises(Unreachable):
            await AsyncRun(calls, SCIENTIST, address, a_task(), plan_of(), time.time).result()

    assert len(patchy.asked) == 3


async def test_a_run_that_failed_says_why(connections: ClientSession) -> None:
    calls = Calls(connections, identity=SCIENTIST)

    async with running(Patchy((END,)).app()) as address:
        with pytest.raises(RunRefused, match="ended as failed: no one came"):
            await AsyncRun(calls, SCIENTIST, address, a_task(), plan_of(), time.time).result()


async def test_a_run_can_be_followed_from_the_middle_and_by_several(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    run = await scientist.start(coordinator, [await start_node("ann", Learner(goal=1.0))], rounds=2, holdout=0.2)
    heard: list[str] = []

    result = await run.result(lambda event, _: heard.append(event.kind))
    again = [event.kind async for event in run.watch()]
    late = [event async for event in run.watch(after=3)]

    assert again == heard
    assert heard[0] == "preparing"
    assert heard[-1] == late[-1].kind == "run-ended"
    assert all(event.cursor > 3 for event in late)
    assert [line.round for line in result.history] == [1, 2]
    assert (await run.info()).state == "success"


CLOSED = {"accepted": 2, "examples": 40.0, "seconds": 0.5, "bytes": {"up": 10, "down": 5}}


def test_history_puts_rounds_together_from_events_in_any_order_of_rounds() -> None:
    history = History()
    second = told(1, "round-closed", round=2, failed={}, rejected={}, **CLOSED)
    first = told(2, "round-closed", round=1, failed={"bob": "gone"}, rejected={"eve": "NaN"}, **CLOSED)

    assert history.hear(told(0, "prepared")) is None
    assert history.hear(told(0, "evaluated", round=7, metrics={})) is None
    history.hear(second)
    history.hear(first)
    line = history.hear(told(3, "evaluated", round=1, metrics={"loss": 0.5}))

    assert line == RoundLine(1, 2, 40, 0.5, 15, {"bob": "gone", "eve": "NaN"}, {"loss": 0.5})
    assert [each.round for each in history.lines()] == [1, 2]


def test_the_metrics_of_a_result_are_the_last_that_are_known() -> None:
    lines = (RoundLine(1, 2, 40, 0.5, 15, {}, {"loss": 0.5}), RoundLine(2, 2, 40, 0.5, 15))

    assert Result(plan_of(), lines).metrics == {"loss": 0.5}
    assert repr(Result(plan_of(), lines)) == "Result(2 rounds, loss 0.5000)"
    assert repr(Result(plan_of(), ())) == "Result(0 rounds, not evaluated)"
