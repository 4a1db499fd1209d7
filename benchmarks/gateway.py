"""What a gateway bears: searches over few and many members, memory per member, joins and renewals per second.

Rates are taken as in `benchmarks.control_plane`: server and load on a core each, next to a bare aiohttp handler.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from benchmarks.control_plane import SERVER, Server, bare, compare, http, signed
from benchmarks.row import Row
from grid.crypto.identity import Identity
from grid.crypto.prekeys import Prekey, publish
from grid.crypto.session import SessionKey, offer
from grid.gateway.app import Policy, open_gateway
from grid.gateway.ask import Answer
from grid.gateway.kept import KeptLog, KeptMembers
from grid.gateway.log import Log
from grid.gateway.register import Register
from grid.gateway.search import Searches
from grid.protocol.documents import sign_document
from grid.store.database import Database
from grid.transport.auth import Authenticator
from grid.transport.serve import running
from grid.wire.directory import JOIN, NODE_RECORD, RENEW, SEARCH, Join, NodeRecord, Renew, Search
from grid.wire.message import encode
from grid.wire.session import SESSION, Accepted, Offer

T = TypeVar("T")
FEW, MANY = 100, 10_000
PREKEY = publish(SERVER, Prekey.generate(), 0, 2**40)


def a_join(number: int, identity: Identity) -> Join:
    """Member `number` of a grid: two tags of its own, so that 10,000 members have 20,000, and one that all have."""
    node_id, address = f"node-{number}", f"https://node-{number}.example:5001"
    now = time.time()
    tags = (f"#scans-{number}", f"#study-{number}", f"#common-{number % 10 if number < FEW else 'no'}")
    record = NodeRecord(node_id, address, int(now * 1000), now + 86_400, tags, public_key=identity.id)
    return Join(node_id, address, sign_document(identity, NODE_RECORD, record), bytes(bytearray(PREKEY)))


# --- searches and memory, in this process's rules alone -----------------------------------------


async def nobody(method: str, url: str, body: bytes | None = None, *, deadline: float) -> Answer | None:
    return None


async def a_register(data: Path, members: int) -> Register:
    """A gateway's register with members that joined as nodes do."""
    database = Database(data / f"{members}.db", "gateway")
    kept = KeptMembers(database, Log(KeptLog(database), SERVER, time.time))
    register = Register(kept, lambda _: None, time.time)
    for start in range(0, members, 500):
        numbers = range(start, min(start + 500, members))
        await asyncio.gather(*(register.join(a_join(n, Identity.generate())) for n in numbers))
    return register


async def search_seconds(register: Register, repeats: int = 2000) -> float:
    """Seconds of one search by two tags, one of which ten members have."""
    searches = Searches(register.roll, nobody, time.time)
    began = time.perf_counter()
    for number in range(repeats):
        found = await searches.search(Search((f"#scans-{number % FEW}", f"#common-{number % 10}")))
        assert len(found.node_addresses) == 1
        found = await searches.search(Search((f"#common-{number % 10}",)))
        assert len(found.node_addresses) == FEW // 10
    return (time.perf_counter() - began) / repeats / 2


def _rss() -> int:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


async def growth(make: Callable[[], Awaitable[T]]) -> tuple[int, T]:
    """Bytes by which this process grows when something is made and kept; and the thing."""
    gc.collect()
    before = _rss()
    made = await make()
    gc.collect()
    return _rss() - before, made


async def some_sessions(count: int) -> Authenticator:
    auth = Authenticator(SERVER, time.time)
    for _ in range(count):
        auth.open_session(offer(Identity.generate(), SERVER.public, time.time())[0])
    return auth


def _sizes(report: Connection) -> None:
    """In a fresh process: search times over few and many members, bytes per member and per session."""

    async def main() -> None:
        with tempfile.TemporaryDirectory() as data:
            few = await a_register(Path(data), FEW)
            sessions_grown, _ = await growth(lambda: some_sessions(1000))
            grown, many = await growth(lambda: a_register(Path(data), MANY))
            turns = [(await search_seconds(few), await search_seconds(many)) for _ in range(5)]
        few_s, many_s = (statistics.median(turn) for turn in zip(*turns, strict=True))
        tags = len(many.roll.tags)
        report.send(
            {
                "search_few_us": round(few_s * 1e6, 1),
                "search_many_us": round(many_s * 1e6, 1),
                "search_growth": round(many_s / few_s, 2),
                "distinct_tags": tags,
                "member_bytes": round(grown / MANY),
                "session_bytes": round(sessions_grown / 1000),
            }
        )

    uvloop.run(main())


def sizes() -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_sizes, args=(theirs,))
    process.start()
    figures: dict[str, Any] = mine.recv()
    process.join()
    return figures


# --- joins and renewals over HTTP ---------------------------------------------------------------


def _gateway(core: int, report: Connection) -> None:
    os.sched_setaffinity(0, {core})

    async def main() -> None:
        with tempfile.TemporaryDirectory() as data:
            auth = Authenticator(SERVER, time.time)
            # The members are made up: checks would look for them in the DNS.
            policy = Policy(allow_private=True, check_interval=3600.0)
            async with Database(Path(data) / "gateway.db", "gateway") as database:
                log = Log(KeptLog(database), SERVER, time.time)
                members = KeptMembers(database, log)
                async with (
                    open_gateway(SERVER, members, policy, auth=auth, now=time.time, version="0", log=log) as app,
                    running(app, keep_alive=60) as address,
                ):
                    report.send(int(address.rpartition(":")[2]))
                    await asyncio.Event().wait()

    gc.freeze()  # as the command does
    with suppress(KeyboardInterrupt):
        uvloop.run(main())


class Gateway(Server):
    """A whole gateway with its database, in its own process, on one core."""

    def __init__(self, core: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._mine, theirs = context.Pipe()
        self._process = context.Process(target=_gateway, args=(core, theirs), daemon=True)


def ask(port: int, path: str, body: bytes) -> bytes:
    """One exchange by hand: the body of the answer."""

    async def exchange() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(http("POST", path, body, "Connection: close\r\n"))
        answer = await reader.read()
        writer.close()
        return answer.partition(b"\r\n\r\n")[2]

    return asyncio.run(exchange())


def sign_in(port: int, identity: Identity) -> SessionKey:
    message, state = offer(identity, SERVER.public, time.time())
    accepted = SESSION.decode_reply(ask(port, SESSION.path, encode(Offer(message))))
    assert isinstance(accepted, Accepted)
    return state.complete(accepted.accepted, time.time())


def joins(first: int, count: int) -> list[bytes]:
    """Requests of nodes with a key each; their addresses are numbers, as checks would else ask the DNS."""
    requests = []
    for number in range(first, first + count):
        identity, now = Identity.generate(), time.time()
        address = f"http://127.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:9"
        record = NodeRecord(
            f"n{number}",
            address,
            int(now * 1000),
            now + 86_400,
            (f"#a-{number}", f"#b-{number}"),
            public_key=identity.id,
        )
        signed_record = sign_document(identity, NODE_RECORD, record)
        requests.append(http("POST", JOIN.path, encode(Join(f"n{number}", address, signed_record, PREKEY))))
    return requests


def rates(seconds: float, turns: int) -> dict[str, float]:
    """Requests per second of the server's CPU, and of the wall clock; p99 in seconds."""
    cores = sorted(os.sched_getaffinity(0))
    alice = Identity.generate()
    with Server(bare, cores[-1]) as bare_server, Gateway(cores[-1]) as server:
        os.sched_setaffinity(0, {cores[0]})
        ask(server.port, JOIN.path, encode(a_join(1, alice)))
        key = sign_in(server.port, alice)
        plain = http("POST", "/search", encode(Search(("#scans-1", "#study-1"))))
        renew, search = encode(Renew("node-1")), encode(Search(("#scans-1", "#study-1")))
        loads = compare(
            {
                "bare": (bare_server, lambda: plain),
                "renew": (server, signed(key, "POST", RENEW.path, renew)),
                "join": (server, joins(1000, int(3000 * seconds * (turns + 1))).pop),
                "search": (server, signed(sign_in(server.port, alice), "POST", SEARCH.path, search)),
            },
            seconds,
            turns,
        )
        os.sched_setaffinity(0, cores)
    figures: dict[str, float] = {}
    for name, load in loads.items():
        figures |= {f"{name}_per_s": round(load.rate), f"{name}_wall_per_s": round(load.wall)}
        figures[f"{name}_ratio"] = round(load.rate / loads["bare"].rate, 3)
        figures[f"{name}_p99_s"] = round(load.p99, 4)
    return figures


def measure(seconds: float = 2.0, turns: int = 3) -> dict[str, Any]:
    """Microseconds, bytes, rates per second, and ratios."""
    return {**sizes(), **rates(seconds, turns)}


def rows() -> Iterator[Row]:
    """The rows for `python -m benchmarks`."""
    found = measure(seconds=1.5, turns=3)
    for name, what, least, most in (
        ("search", "authenticated POST /search", 0.5, 50),
        ("renew", "renewal of a lease", 0.5, 50),
        ("join", "signed, durable POST /join", 0.2, None),
    ):
        ratio, p99 = found[f"{name}_ratio"], found[f"{name}_p99_s"]
        yield Row(f"gateway.{name}", f"{what}, of a bare JSON handler's rate", ratio, "x", least=least)
        yield Row(f"gateway.{name}.p99", "the same, one request of a hundred takes longer", p99 * 1000, "ms", most=most)
    yield Row("gateway.many", "a search over 10,000 members, of one over 100", found["search_growth"], "x", most=2)
    yield Row("gateway.member", "memory of an idle member", found["member_bytes"] / 1024, "KiB", most=20)
    yield Row("gateway.session", "memory of an open session", found["session_bytes"] / 1024, "KiB")
