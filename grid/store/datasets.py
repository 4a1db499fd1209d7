"""A node's datasets: what is told about each, and which file of tensors it is."""

from __future__ import annotations

import sqlite3

import msgspec
from msgspec import Struct

from grid.protocol.permission import Permission, Visibility
from grid.wire.node import DatasetInfo
from grid.wire.problems import DatasetExists, DatasetNotFound

_ALL = "info, digest, bytes, visibility, mock"


class Dataset(Struct, frozen=True):
    """`digest` (SHA-256) and `size` (bytes) are its file's; `mock` is a file's that has nobody's data, or empty."""

    info: DatasetInfo
    digest: str
    size: int
    visibility: Visibility = "private"
    mock: str = ""


def add(connection: sqlite3.Connection, dataset: Dataset) -> None:
    """Register a dataset. Raises DatasetExists."""
    info = dataset.info
    try:
        connection.execute(
            "INSERT INTO datasets (name, digest, bytes, visibility, mock, info) VALUES (?, ?, ?, ?, ?, ?)",
            (info.name, dataset.digest, dataset.size, dataset.visibility, dataset.mock, msgspec.json.encode(info)),
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
    row = connection.execute(f"SELECT {_ALL} FROM datasets WHERE name = ?", (name,)).fetchone()  # noqa: S608
    if row is None:
        raise DatasetNotFound(f"there is no dataset named {name}")
    return _dataset(*row)


def all_datasets(connection: sqlite3.Connection) -> list[Dataset]:
    """All datasets in order of name."""
    rows = connection.execute(f"SELECT {_ALL} FROM datasets ORDER BY name")  # noqa: S608
    return [_dataset(*row) for row in rows]


def uses(connection: sqlite3.Connection, digest: str) -> int:
    """How many datasets are this file, or its mock: two may have the same content."""
    (count,) = connection.execute("SELECT COUNT(*) FROM datasets WHERE ? IN (digest, mock)", (digest,)).fetchone()
    return int(count)


def change(connection: sqlite3.Connection, dataset: Dataset) -> None:
    """Another description, visibility or mock of the dataset of that name."""
    connection.execute(
        "UPDATE datasets SET visibility = ?, mock = ?, info = ? WHERE name = ?",
        (dataset.visibility, dataset.mock, msgspec.json.encode(dataset.info), dataset.info.name),
    )


def permissions(connection: sqlite3.Connection) -> dict[str, list[Permission]]:
    """All permissions, by the name of the dataset."""
    found: dict[str, list[Permission]] = {}
    rows = connection.execute("SELECT dataset, subject, name, tensor, action, allow FROM permissions ORDER BY rowid")
    for dataset, subject, name, tensor, action, allow in rows:
        found.setdefault(dataset, []).append(Permission(subject, name, tensor, action, bool(allow)))
    return found


def permit(connection: sqlite3.Connection, dataset: str, said: Permission) -> None:
    """One permission, in place of what was said before."""
    connection.execute(
        "INSERT OR REPLACE INTO permissions (dataset, subject, name, tensor, action, allow) VALUES (?, ?, ?, ?, ?, ?)",
        (dataset, said.subject, said.name, said.tensor, said.action, int(said.allow)),
    )


def unsay(connection: sqlite3.Connection, dataset: str, said: Permission) -> bool:
    """Whatever it allowed or not: nothing is said any more. Whether there was anything."""
    gone = connection.execute(
        "DELETE FROM permissions WHERE dataset = ? AND subject = ? AND name = ? AND tensor = ? AND action = ?",
        (dataset, said.subject, said.name, said.tensor, said.action),
    )
    return gone.rowcount > 0


def _dataset(info: bytes, digest: str, size: int, visibility: Visibility, mock: str) -> Dataset:
    return Dataset(msgspec.json.decode(info, type=DatasetInfo), digest, size, visibility, mock)
