"""What earlier versions kept of accounts and groups is there under the present schema."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from grid.accounts.passwords import fits
from grid.store import accounts
from grid.store.ledger import members
from grid.store.schema import MIGRATIONS, connect, migrate


def until(schema: str, last: str, folder: Path) -> Path:
    """The migrations of a schema up to one."""
    folder.mkdir()
    for file in sorted((MIGRATIONS / schema).glob("*.sql")):
        if file.stem <= last:
            shutil.copy(file, folder)
    return folder


def test_accounts_of_an_earlier_gateway_sign_in_as_before(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "gateway.db")) as connection:
        migrate(connection, until("gateway", "0005_groups", tmp_path / "old"))
        salt = b"s" * 16
        connection.execute(
            "INSERT INTO accounts (name, email, salt, hash, created) VALUES ('ann', 'a@example.org', ?, ?, 1.0)",
            (salt, bytes.fromhex("7c3e2ab7c1c1c2b6")),
        )
        migrate(connection, MIGRATIONS / "gateway")

        (ann,) = accounts.accounts(connection)

    assert (ann.name, ann.role, ann.password) == ("ann", 5, f"$scrypt${salt.hex().upper()}$7C3E2AB7C1C1C2B6")
    assert not fits("anything", ann.password)


@pytest.mark.parametrize("count", [0, 2])
def test_groups_of_keys_become_groups_of_accounts(tmp_path: Path, count: int) -> None:
    keys = [letter * 43 for letter in "ab"[:count]]
    with closing(connect(tmp_path / "node.db")) as connection:
        migrate(connection, until("node", "0010_ledger", tmp_path / "old"))
        for key in keys:
            connection.execute("INSERT INTO budget_groups (name, account) VALUES ('students', ?)", (key,))
        migrate(connection, MIGRATIONS / "node")

        assert [row.keys for row in accounts.accounts(connection)] == [(key,) for key in keys]
        assert members(connection).get("students", frozenset()) >= set(keys)
