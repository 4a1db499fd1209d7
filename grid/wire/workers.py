"""The workers of a node: who is at what, and how many there are."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from grid.wire.endpoint import Endpoint
from grid.wire.message import Message
from grid.wire.names import Count, Seconds
from grid.wire.problems import NotFound, RequestRefused
from grid.wire.rights import Right


class WorkerInfo(Message, frozen=True):
    """A worker: free, or at a `job` of a `run` since so many seconds.

    `seconds` of processor time that its process took, `memory` bytes that it holds.
    """

    number: Count
    job: str = ""
    run: str = ""
    busy_for: Seconds = 0.0
    device: str = "cpu"
    seconds: float = 0.0
    memory: Count = 0


class Workers(Message, frozen=True):
    """All workers; `waiting` jobs want one, `load` is the machine's load average of the last minute."""

    workers: tuple[WorkerInfo, ...]
    waiting: Count
    load: float


class More(Message, frozen=True):
    """So many workers more."""

    workers: Annotated[int, Meta(ge=1, le=256)] = 1


WORKERS: Endpoint[None, Workers] = Endpoint(
    "GET",
    "/v1/workers",
    gives=Workers,
    who="signed",
    right=Right.MANAGE_INFRASTRUCTURE,
    about="The workers, with what they do and take",
)
ADD_WORKERS = Endpoint(
    "POST",
    "/v1/workers",
    More,
    Workers,
    who="signed",
    right=Right.MANAGE_INFRASTRUCTURE,
    about="Have more workers, also after a restart",
    problems=(RequestRefused,),
)
REMOVE_WORKER: Endpoint[None, Workers] = Endpoint(
    "DELETE",
    "/v1/workers/{number}",
    gives=Workers,
    who="signed",
    right=Right.MANAGE_INFRASTRUCTURE,
    about="Have one worker less; what it was at begins anew with another",
    problems=(NotFound, RequestRefused),
)
