from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from grid.store.schema import MIGRATIONS, connect, prepare, statements
from grid.wire.problems import SchemaUnknown


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_first.sql").write_text("CREATE TABLE a (x TEXT); -- one; two\nCREATE TABLE b (y TEXT);\n")
    return folder


def tables(path: Path) -> set[str]:
    with closing(connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


@pytest.mark.parametrize("schema", ["gateway", "node"])
def test_a_file_is_made_from_nothing_and_only_its_owner_can_read_it(tmp_path: Path, schema: str) -> None:
    path = tmp_path / "data" / "grid.db"
    prepare(path, schema)

    assert "events" in tables(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_migration_is_applied_once_and_later_ones_on_top(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "grid.db"
    prepare(path, "", folder)
    prepare(path, "", folder)
    (folder / "0002_second.sql").write_text("CREATE TABLE c (z TEXT);\n")
    prepare(path, "", folder)

    assert tables(path) == {"a", "b", "c", "schema_version"}


def test_a_migration_that_fails_leaves_nothing_of_itself(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "grid.db"
    prepare(path, "", folder)
    (folder / "0002_second.sql").write_text("CREATE TABLE c (z TEXT);\nCREATE TABLE a (again TEXT);\n")

    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        prepare(path, "", folder)

    assert tables(path) == {"a", "b", "schema_version"}


def test_a_file_of_a_later_version_is_refused(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "grid.db"
    (folder / "0002_second.sql").write_text("CREATE TABLE c (z TEXT);\n")
    prepare(path, "", folder)
    (folder / "0002_second.sql").unlink()

    with pytest.raises(SchemaUnknown):
        prepare(path, "", folder)


def test_a_gateway_does_not_open_the_file_of_a_node(tmp_path: Path) -> None:
    prepare(tmp_path / "grid.db", "node")

    with pytest.raises(SchemaUnknown):
        prepare(tmp_path / "grid.db", "gateway")


def test_every_commit_reaches_the_disk_and_foreign_keys_are_kept(tmp_path: Path) -> None:
    prepare(tmp_path / "grid.db", "node")
    with closing(connect(tmp_path / "grid.db")) as connection:
        pragmas = {p: connection.execute(f"PRAGMA {p}").fetchone()[0] for p in ("journal_mode", "synchronous")}
        assert pragmas == {"journal_mode": "wal", "synchronous": 2}
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(
                "INSERT INTO checkpoints (run, role, round, file, digest, bytes) VALUES ('r', 'c', 0, '', '', 0)"
            )


@pytest.mark.parametrize("file", sorted(MIGRATIONS.glob("*/*.sql")), ids=lambda file: file.stem)
def test_every_migration_is_whole_statements(file: Path) -> None:
    script = file.read_text()

    assert "".join(statements(script)).strip() == script.strip()


@pytest.mark.parametrize("schema", ["gateway", "node"])
def test_no_two_migrations_share_a_number(schema: str) -> None:
    numbers = [file.name[:4] for file in (MIGRATIONS / schema).glob("*.sql")]

    assert sorted(numbers) == [f"{n:04}" for n in range(1, len(numbers) + 1)]
