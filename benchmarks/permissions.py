"""What it costs a node to ask who may: one permission, and the first page of 10,000 datasets as an account sees it.

The page is asked for over HTTP from a real node in this process, signed in; half of its datasets are hidden from the
account, a tenth is opened again for its group. Medians.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.row import Row
from grid.cli.assemble import NodeSettings, open_node
from grid.client.calls import Calls
from grid.client.egress import Egress, open_http
from grid.crypto.identity import Identity
from grid.node.access import Asker
from grid.protocol.permission import Permission
from grid.store import datasets
from grid.store.database import Database
from grid.store.schema import Transaction
from grid.transport.auth import OWNER
from grid.transport.serve import running
from grid.wire.node import DATASETS, DatasetInfo, Page, TensorInfo

DATASETS_HERE, CHECKS, PAGES = 10_000, 20_000, 60
SUE = Identity.from_seed(b"s" * 32)


def fill(connection: Transaction) -> None:
    """Datasets of which no file is ever read."""
    tensors = (TensorInfo("features", "float32", (100, 30)), TensorInfo("target", "int64", (100,)))
    for n in range(DATASETS_HERE):
        name = f"ward-{n:05}"
        info = DatasetInfo(name, "a ward's patients", ("#ward", f"#year-{n % 20}"), 100, tensors, "target")
        datasets.add(connection, datasets.Dataset(info, "0" * 64, 1, "hidden" if n % 2 else "private"))
        if n % 10 == 1:
            datasets.permit(connection, name, Permission("group", "heart", "", "find", allow=True))
        datasets.permit(connection, name, Permission("user", "sue", "target", "read", allow=False))


async def measured() -> tuple[float, float]:
    """Seconds for one check, and for the first page."""
    with tempfile.TemporaryDirectory() as folder:
        async with Database(Path(folder) / "node.db", "node") as database:
            database.write_now(fill)
        identity = Identity.generate()
        settings = NodeSettings("ann", Path(folder), port=0)
        async with (
            open_node(settings, identity, owners=()) as node,
            running(node.app) as address,
            open_http(Egress(allow_private=True)) as http,
        ):
            house = node.means.house
            await house.people.create(OWNER, "olga")
            await house.groups.put("heart")
            await house.people.create(OWNER, "sue", role="User", keys=(SUE.id,))
            await house.groups.join("heart", "sue")
            calls = Calls(http, identity=SUE)
            took = []
            for _ in range(PAGES):
                began = time.perf_counter()
                page = await calls.call(address, DATASETS, query=Page(), peer=identity.public)
                took.append(time.perf_counter() - began)
                assert len(page.datasets) == 100
            asker, some = Asker("sue", frozenset({"heart"})), node.means.catalogue.dataset("ward-05001")
            began = time.perf_counter()
            for _ in range(CHECKS):
                node.means.permissions.may(asker, "read", some, "target")
            return (time.perf_counter() - began) / CHECKS, statistics.median(took)


def rows() -> Iterator[Row]:
    """Both figures."""
    check, page = asyncio.run(measured())
    yield Row("permissions.check", "whether an account may read a tensor", check * 1e6, "us", most=50)
    what = "the first 100 of 10,000 datasets, as an account sees them"
    yield Row("permissions.page", what, page * 1e3, "ms", most=30)
