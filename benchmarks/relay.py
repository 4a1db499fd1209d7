"""A round through the relay beside the same round on direct connections, and what idle mailboxes cost a gateway.

Round: a coordinator and three participants without ports, one gateway, each a process of its own; then the same with
ports. Idle: mailboxes that are held open by long-polls, each with a key, a session and a connection of its own, in the
state that they come to: each asks again once in `LONGEST_WAIT`, and some of them in any minute.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import uvloop
from aiohttp import ClientSession

from benchmarks.daemons import gateway, give_dataset, node, scratch
from benchmarks.machine import cpu_seconds, forget_peak, peak_rss, usage
from benchmarks.rounds import EXAMPLES, WARM_UP, between, held, model_bytes, ms, p90
from benchmarks.row import Row
from grid.client.calls import Calls
from grid.client.egress import Egress, open_http
from grid.client.handing_in import hand_in
from grid.client.mailbox import AGAIN
from grid.client.writing import MemoryPrekeys
from grid.crypto.envelope import Header
from grid.crypto.identity import Identity
from grid.crypto.prekeys import read_published
from grid.crypto.sealing import seal_file
from grid.learning.plan import Plan
from grid.wire.node import Published
from grid.wire.relay import LETTER, LETTER_HELD, LETTERS, LONGEST_WAIT, OPEN_MAILBOX, POST_LETTER, Reading

SIZES = (64, 14, 10)
"""A perceptron of 4.2 KB."""

ROUNDS, PARTICIPANTS = 40, 3
LARGE = 200_000_000
IDLE, FIRST, AT_ONCE = 2000, 100, 50
"""Mailboxes that are measured; those before them, for what a gateway loads but once; and how many open at a time."""

WATCH, SETTLE = 60.0, 65.0
"""Seconds for which processor time is counted, and before that: until then mailboxes are new to the gateway."""


def rounds(folder: Path, *, listen: bool) -> list[float]:
    """Seconds of each round, with ports or without."""
    me = Identity.generate()
    names = [f"node-{number}" for number in range(PARTICIPANTS)]
    for name in names:
        give_dataset(folder / name, rows=EXAMPLES)
    with ExitStack() as stack:
        at = (stack.enter_context(gateway(folder)).address,)
        nodes = [
            stack.enter_context(node(folder, name, gateways=at, trust=me.id, warm=True, listen=listen))
            for name in names
        ]
        carol = stack.enter_context(node(folder, "carol", gateways=at, trust=me.id, listen=listen))
        plan = Plan.mlp(list(SIZES), batch=EXAMPLES, steps=1)
        addresses = [each.address for each in nodes]
        closed, _ = uvloop.run(held(me, carol.address, addresses, plan, WARM_UP + ROUNDS))
    return between(closed)


class Idle:
    """Mailboxes that are held open; counts those whose long-poll is under way."""

    def __init__(self, http: ClientSession, address: str) -> None:
        self._http, self._address = http, address
        self.open, self._opened = 0, asyncio.Event()

    async def until(self, count: int) -> None:
        """Wait until so many are open."""
        while self.open < count:
            self._opened.clear()
            await self._opened.wait()

    async def hold(self, first: float) -> None:
        """Open one mailbox, and wait for letters that do not come: `first` seconds, then as long as may be."""
        identity = Identity.generate()
        calls, prekeys = Calls(self._http, identity=identity), MemoryPrekeys(identity, time.time)
        await calls.call(self._address, OPEN_MAILBOX, Published(prekeys.published()), mailbox=identity.id)
        self.open += 1
        self._opened.set()
        wait = first
        while True:
            query = Reading(wait=wait)
            await calls.call(self._address, LETTERS, query=query, deadline=wait + AGAIN, mailbox=identity.id)
            wait = LONGEST_WAIT


async def idle(address: str, pid: int) -> tuple[float, float]:
    """KiB of the gateway for each mailbox that is held open, and per cent of a core while no letter comes."""
    draw = random.Random(0)
    async with open_http(Egress(allow_private=True), limit=0, per_host=0) as http, asyncio.TaskGroup() as group:
        few, many = Idle(http, address), Idle(http, address)
        tasks = [group.create_task(few.hold(draw.uniform(0, LONGEST_WAIT))) for _ in range(FIRST)]
        await few.until(FIRST)
        before = usage([pid]).rss
        for _ in range(IDLE):
            tasks.append(group.create_task(many.hold(draw.uniform(0, LONGEST_WAIT))))
            if len(tasks) % AT_ONCE == 0:
                await many.until(len(tasks) - FIRST)
        await many.until(IDLE)
        await asyncio.sleep(1.0)
        grown = usage([pid]).rss - before
        await asyncio.sleep(SETTLE)
        cpu = cpu_seconds([pid])
        await asyncio.sleep(WATCH)
        spent = (cpu_seconds([pid]) - cpu) / WATCH
        for task in tasks:
            task.cancel()
    return grown * 1e6 / 1024 / IDLE, 100 * spent


async def large(address: str, pid: int, folder: Path) -> tuple[float, float]:
    """MB per second of a letter of 200 MB, posted and fetched; by how many MB the gateway's memory grew at most."""
    me, now = Identity.generate(), time.time()
    prekeys, file = MemoryPrekeys(me, time.time), folder / "letter"
    header = Header(sender=me.public, audience=me.public, kind="letter", created=int(now), expires=int(now) + 600)
    (folder / "payload").write_bytes(bytes(LARGE))
    seal_file(me, header, folder / "payload", file, [read_published(prekeys.published(), me.public, now)])
    name = await asyncio.to_thread(lambda: sha256(file.read_bytes()).hexdigest())
    async with open_http(Egress(allow_private=True)) as http:
        calls = Calls(http, identity=me)
        await calls.call(address, OPEN_MAILBOX, Published(prekeys.published()), mailbox=me.id)
        before = usage([pid]).rss
        forget_peak(pid)
        began = time.perf_counter()
        await hand_in(calls, address, POST_LETTER, LETTER_HELD, file, content=name, mailbox=me.id, letter=name)
        async with calls.download(address, LETTER, mailbox=me.id, letter=name) as (_, blocks):
            size = sum([len(block) async for block in blocks])
        taken = time.perf_counter() - began
    return size / 1e6 / taken, peak_rss(pid) - before


def rows() -> Iterator[Row]:
    """The rows of this benchmark."""
    with scratch() as folder:
        relayed = rounds(folder, listen=False)
    with scratch() as folder:
        direct = rounds(folder, listen=True)
    size = model_bytes(SIZES) / 1000
    period, floor = statistics.median(relayed), statistics.median(direct)
    what = f"3 nodes without ports, {size:.1f} KB, through one gateway: whole round, median"
    yield Row("relay.round", what, ms(period), "ms", most=200)
    yield Row("relay.round.p90", "the same, nine rounds of ten are quicker", ms(p90(relayed)), "ms")
    yield Row("relay.round.direct", "the same nodes with ports", ms(floor), "ms")
    yield Row("relay.round.ratio", "through the relay over direct", period / floor, "x")
    with scratch() as folder, gateway(folder) as listed:
        speed, grown = uvloop.run(large(listed.address, listed.pid, folder))
    yield Row("relay.large", "a letter of 200 MB, posted and fetched again", speed, "MB/s")
    yield Row("relay.large.memory", "the gateway's peak above idle meanwhile", grown, "MB", most=30)
    with scratch() as folder, gateway(folder) as listed:
        each, spent = uvloop.run(idle(listed.address, listed.pid))
    yield Row("relay.idle", f"{IDLE} mailboxes held open by long-polls: the gateway, for each", each, "KiB", most=20)
    what = f"the same, of a core, over {WATCH:.0f} s in which no letter comes"
    yield Row("relay.idle.cpu", what, spent, "%", most=0.05)
