"""One device and all that it says: it introduces itself, asks to take part, fetches, trains, and hands in.

The protocol is PyGrid's (model-centric). How requests travel is not its concern: it is given `ask`, and says to it
method, path and body.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlencode

import numpy as np

from grid.device.tensors import Model, read, write

BASE = "/model-centric"
TRIES = 8
"""How often a request is made whose answer does not come."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds between tries: twice as many after each, and each device waits a share of its own."""


class Ask(Protocol):
    """Makes a request: status and body of its answer. Raises OSError where there is none."""

    def __call__(self, method: str, path: str, body: Sequence[bytes] = ()) -> Awaitable[tuple[int, bytes]]:
        """The parts of `body` follow each other; it is JSON."""


Train = Callable[[Model, Mapping[str, Any]], Model]
"""Learns: the model to begin with and what its owner says of training, to the model that was learned."""


class Later(NamedTuple):
    """Not now: why, and after how many seconds to come again; None: never."""

    reason: str
    seconds: float | None


class Assignment(NamedTuple):
    """This device takes part: what it fetches and hands in by, and what it is told about training."""

    key: str
    config: Mapping[str, Any]
    plans: Mapping[str, int]


class Refused(Exception):
    """The node refuses, by the name (`slug`) of a problem, in words for a person."""

    def __init__(self, slug: str, detail: str) -> None:
        super().__init__(f"{slug}: {detail}")
        self.slug = slug


class Device:
    """A device for one process, `name` and `version`; `token` where the process asks for one.

    `worker` is the secret by which a node knows it: keep it, and it stays the same device. `pause` waits for seconds.
    `speeds`: kilobits a second, `upload` and `download`, and `ping` in milliseconds, as far as they were measured.
    """

    def __init__(
        self,
        ask: Ask,
        pause: Callable[[float], Awaitable[object]],
        name: str,
        version: str = "",
        *,
        token: str = "",
        worker: str = "",
        speeds: Mapping[str, float] | None = None,
    ) -> None:
        self._ask, self._pause = ask, pause
        self._name, self._version, self._token = name, version, token
        self.worker, self.speeds = worker, dict(speeds or {})

    async def take_part(self, train: Train) -> Later | None:
        """One round, if there is a place in it. None: the update is handed in; else when to come again.

        Raises:
            Refused: also where the round ended meanwhile (`task-closed`).
            OSError: the node does not answer.
        """
        if not self.worker:
            await self.introduce()
        found = await self.check_in()
        if isinstance(found, Later):
            return found
        before = read(await self.fetch(found))
        after = train(before, found.config)
        await self.hand_in(found, write({name: before[name] - np.asarray(after[name]) for name in before}))
        return None

    async def introduce(self) -> bool:
        """Become known to the node; whether it wants to know how fast this device is."""
        said = {"model_name": self._name, "model_version": self._version, "auth_token": self._token or None}
        told = await self._tell("authenticate", said)
        self.worker = told["worker_id"]
        return bool(told["requires_speed_test"])

    async def check_in(self) -> Assignment | Later:
        """Ask to take part."""
        said = {"worker_id": self.worker, "model": self._name, **self.speeds}
        told = await self._tell("cycle-request", said)
        if told["status"] != "accepted":
            return Later(told["reason"], told.get("timeout"))
        return Assignment(told["request_key"], told["client_config"], told["plans"])

    async def fetch(self, assignment: Assignment) -> bytes:
        """The model to begin with, as a file of tensors."""
        return await self._request("GET", f"get-model?{self._query(assignment)}")

    async def fetch_plan(self, assignment: Assignment, name: str, form: str = "list") -> bytes:
        """A plan of the process, in one of its forms."""
        more = f"&plan_id={assignment.plans[name]}&receive_operations_as={form}"
        return await self._request("GET", f"get-plan?{self._query(assignment)}{more}")

    async def hand_in(self, assignment: Assignment, difference: bytes) -> None:
        """Hand in the checkpoint less what was learned. That it was handed in before says that it is there."""
        await self.report(assignment, base64.b64encode(difference))

    async def report(self, assignment: Assignment, text: bytes) -> None:
        """The same of a difference that is base64 already. Who reports stands before it."""
        head = json.dumps({"worker_id": self.worker, "request_key": assignment.key})[:-1]
        try:
            await self._request("POST", "report", (f'{head}, "diff": "'.encode(), text, b'"}'))
        except Refused as refused:
            if refused.slug != "update-repeated":
                raise

    def _query(self, assignment: Assignment) -> str:
        return urlencode({"worker_id": self.worker, "request_key": assignment.key})

    async def _tell(self, what: str, said: Mapping[str, Any]) -> Any:
        return json.loads(await self._request("POST", what, (json.dumps(said).encode(),)))

    async def _request(self, method: str, what: str, body: Sequence[bytes] = ()) -> bytes:
        """The answer; asked for again while none comes, or the node says that it is not able to."""
        for tried in range(TRIES):
            try:
                status, answer = await self._ask(method, f"{BASE}/{what}", body)
            except OSError:
                if tried == TRIES - 1:
                    raise
            else:
                if status < 300:
                    return answer
                if status < 500 or tried == TRIES - 1:
                    raise _refusal(status, answer)
            await self._pause(min(LONGEST_PAUSE, FIRST_PAUSE * 2**tried) * (0.5 + random.random() / 2))  # noqa: S311
        raise AssertionError("the last try returns or raises")


def _refusal(status: int, answer: bytes) -> Refused:
    try:
        told = json.loads(answer)
        return Refused(told["type"].rpartition(":")[2], told["detail"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return Refused("unknown", f"status {status}")
