"""Tasks that wait for devices: what happens to one, as it happens."""

from __future__ import annotations

from grid.wire.endpoint import Endpoint
from grid.wire.problems import NotAllowed, TaskNotFound
from grid.wire.runs import After, Event, Events

TASK_EVENTS: Endpoint[None, Events] = Endpoint(
    "GET",
    "/v1/tasks/{task}/events",
    gives=Events,
    query=After,
    who="signed",
    about="What happens to a task: its states, who commits, hands in and gives up; for whoever opened it",
    entry=Event,
    deadline=40.0,
    problems=(NotAllowed, TaskNotFound),
)
