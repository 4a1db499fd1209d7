"""Wakes devices that are asked to train. Whoever cannot be woken, or was missed, reads the same call in the events."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Protocol

import aiohttp
import msgspec

from grid.node.fleet.registry import Fleets
from grid.node.fleet.rounds import Call
from grid.store import fleets
from grid.store.fleets import DeviceRow
from grid.store.schema import Transaction
from grid.wire.problems import GridError

log = logging.getLogger(__name__)

Told = Mapping[str, object]
"""A call to train: `grid.node.fleet.rounds.Call.told`."""
DEADLINE = 20.0
"""Seconds that one message may take."""
AT_ONCE = 16


class Gone(Exception):
    """The device is no longer reached in this way."""


class PushRefused(Exception):
    """The push service did not take the message; the text says why."""


class Driver(Protocol):
    """One way to wake devices."""

    async def send(self, to: Any, told: Told, lives: float) -> None:
        """Hand a message to the push service, which may keep it for `lives` seconds.

        Raises:
            Gone, PushRefused, GridError, OSError, aiohttp.ClientError
        """


class Waker:
    """Wakes the devices of a call, each by the driver for how it asked to be woken; a failure stops nothing."""

    def __init__(
        self, of: Fleets, drivers: Mapping[type, Driver], spawn: Callable[[Coroutine[Any, Any, None]], object]
    ) -> None:
        self._fleets, self._drivers, self._spawn = of, drivers, spawn

    def __call__(self, call: Call) -> None:
        """Begin; a task that the node owns goes on with it."""
        if any(type(each.wake) in self._drivers for each in call.devices):
            self._spawn(self._wake(call))

    async def _wake(self, call: Call) -> None:
        room, told, lives = asyncio.Semaphore(AT_ONCE), call.told(), call.ends - self._fleets.now()
        async with asyncio.TaskGroup() as group:
            for each in call.devices:
                if driver := self._drivers.get(type(each.wake)):
                    group.create_task(self._one(driver, each, told, lives, room))

    async def _one(self, driver: Driver, device: DeviceRow, told: Told, lives: float, room: asyncio.Semaphore) -> None:
        try:
            async with room, asyncio.timeout(DEADLINE):
                await driver.send(device.wake, told, lives)
        except Gone:
            await self._fleets.database.write(partial(_forget, device=device))
        except (PushRefused, GridError, OSError, TimeoutError, aiohttp.ClientError) as error:
            log.warning("device %d was not woken: %s", device.account, str(error) or type(error).__name__)


def _forget(connection: Transaction, device: DeviceRow) -> None:
    """It is not woken so any more, unless it has asked to be woken in another way since."""
    for each in fleets.devices(connection, prefix=device.name):
        if each.account == device.account and each.wake == device.wake:
            fleets.put_wake(connection, device.account, None)


def as_json(told: Told) -> bytes:
    """The message as devices read it."""
    return msgspec.json.encode(told)


def jwt(header: Mapping[str, str], claims: Mapping[str, object], sign: Callable[[bytes], bytes]) -> str:
    """A JSON Web Token (RFC 7519) for a push service, by which it knows us. None of ours is ever read."""
    parts = [_text(msgspec.json.encode(each)) for each in (header, claims)]
    said = ".".join(parts)
    return f"{said}.{_text(sign(said.encode()))}"


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
