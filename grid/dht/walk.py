"""Carries out a lookup: asks whom its rules say, and tells them who answered, who is late, and who is not there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from grid.dht.lookup import Lookup
from grid.dht.table import Contact
from grid.wire.problems import GridError


async def walk(lookup: Lookup, ask: Callable[[Contact], Awaitable[None]], *, soft: float, hard: float) -> None:
    """Ask until the lookup is done. `ask` tells the lookup what was answered, or raises `GridError`.

    After `soft` seconds a peer is late, after `hard` seconds it is not there. Nobody is waited for in the end.
    """
    loop, changed, asked = asyncio.get_running_loop(), asyncio.Event(), set[asyncio.Task[None]]()

    def late(contact: Contact) -> None:
        lookup.late(contact)
        changed.set()

    async def one(contact: Contact) -> None:
        timer = loop.call_later(soft, late, contact)
        try:
            async with asyncio.timeout(hard):
                await ask(contact)
        except GridError:
            lookup.failed(contact)
        except TimeoutError:
            lookup.gave_up(contact)
        finally:
            timer.cancel()
            changed.set()

    try:
        while not lookup.done:
            changed.clear()
            for contact in lookup.ask():
                asked.add(loop.create_task(one(contact)))
            await changed.wait()
            for task in [task for task in asked if task.done()]:
                asked.discard(task)
                task.result()  # whatever was not expected is not hidden
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
