from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from grid.store import datasets
from grid.store.database import Database
from grid.store.datasets import Dataset
from grid.wire.node import DatasetInfo, TensorInfo
from grid.wire.problems import DatasetExists, DatasetNotFound

SCANS = Dataset(
    DatasetInfo(
        name="scans",
        description="digits",
        tags=("#digits", "#scans"),
        examples=10,
        tensors=(TensorInfo(name="features", dtype="float32", shape=(10, 64)),),
        created=5.0,
    ),
    digest="a" * 64,
    size=2560,
)


@pytest.fixture
async def db() -> AsyncIterator[Database]:
    async with Database(None, "node") as db:
        await db.write(lambda c: datasets.add(c, SCANS))
        yield db


async def test_a_dataset_comes_back_as_it_was_registered(db: Database) -> None:
    assert await db.read(lambda c: datasets.get(c, "scans")) == SCANS


async def test_all_datasets_are_listed_by_name_hidden_ones_marked(db: Database) -> None:
    private = Dataset(
        msgspec.structs.replace(SCANS.info, name="films"),
        digest="a" * 64,
        size=2560,
        visibility="hidden",
        mock="b" * 64,
    )
    await db.write(lambda c: datasets.add(c, private))

    assert await db.read(datasets.all_datasets) == [private, SCANS]
    assert await db.read(lambda c: datasets.uses(c, "a" * 64)) == 2
    assert await db.read(lambda c: datasets.uses(c, "b" * 64)) == 1


async def test_a_name_is_given_once(db: Database) -> None:
    with pytest.raises(DatasetExists, match="named scans"):
        await db.write(lambda c: datasets.add(c, SCANS))


async def test_a_dataset_that_was_removed_is_not_found(db: Database) -> None:
    assert await db.write(lambda c: datasets.remove(c, "scans")) == SCANS

    with pytest.raises(DatasetNotFound):
        await db.read(lambda c: datasets.get(c, "scans"))
    with pytest.raises(DatasetNotFound):
        await db.write(lambda c: datasets.remove(c, "scans"))
