"""A node's datasets: what is told about each, and which file of tensors it is."""

from __future__ import annotations

import sqlite3

import msgspec
from msgspec import Struct

from grid.wire.node import DatasetInfo
from grid.wire.problems import DatasetExists, DatasetNotFound


class Dataset(Struct, frozen=True):
    """`digest` (SHA-256) and `size` (bytes) are its file's; a private dataset is not advertised."""

    info: DatasetInfo
    digest: str
    size: int
    private: bool = False


def add(connection: sqlite3.Connection, dataset: Dataset) -> None:
    """Register a dataset. Raises DatasetExists."""
    info = dataset.info
    try:
        connection.execute(
            "INSERT INTO datasets (name, digest, bytes, private, info) VALUES (?, ?, ?, ?, ?)",
            (info.name, dataset.digest, dataset.size, int(dataset.private), msgspec.json.encode(info)),
        )
    except sqlite3.IntegrityError:
        raise DatasetExists(f"a dataset named {info.name} is already here") from None


def remove(connection: sqlite3.Connection, name: str) -> Dataset:
    """Take a dataset off the list; the file is the caller's to delete. Raises DatasetNotFound."""
    dataset = get(connection, name)
    connection.execute("DELETE FROM datasets WHERE name = ?", (name,))
    return dataset


def get(connection: sqlite3.Connection, name: str) -> Dataset:
    """One dataset. Raises DatasetNotFound."""
    row = connection.execute("SELECT info, digest, bytes, private FROM datasets WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise DatasetNotFound(f"there is no dataset named {name}")
    return _dataset(*row)


def all_datasets(connection: sqlite3.Connection) -> list[Dataset]:
    """All datasets in order of name."""
    rows = connection.execute("SELECT info, digest, bytes, private FROM datasets ORDER BY name")
    return [_dataset(*row) for row in rows]


def uses(connection: sqlite3.Connection, digest: str) -> int:
    """How many datasets are this file: two may have the same content."""
    (count,) = connection.execute("SELECT COUNT(*) FROM datasets WHERE digest = ?", (digest,)).fetchone()
    return int(count)


def _dataset(info: bytes, digest: str, size: int, private: int) -> Dataset:
    return Dataset(msgspec.json.decode(info, type=DatasetInfo), digest, size, bool(private))
