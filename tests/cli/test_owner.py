from __future__ import annotations

from pathlib import Path

from grid.cli.owner import FILE, owner_token


def test_the_token_is_told_once_and_works_from_then_on(tmp_path: Path) -> None:
    is_owner, token = owner_token(tmp_path / "data")
    later, none = owner_token(tmp_path / "data")

    assert token
    assert none is None
    assert is_owner(token)
    assert later(token)
    assert not later(token + "x")
    assert not later("")


def test_only_its_hash_is_kept_where_its_owner_alone_reads(tmp_path: Path) -> None:
    _, token = owner_token(tmp_path / "data")
    kept = [*(tmp_path / "data").iterdir()]

    assert [file.name for file in kept] == [FILE]
    assert token
    assert token not in kept[0].read_text()
    assert kept[0].stat().st_mode & 0o777 == 0o600


def test_without_the_file_there_is_a_new_token(tmp_path: Path) -> None:
    _, old = owner_token(tmp_path)
    (tmp_path / FILE).unlink()

    is_owner, new = owner_token(tmp_path)

    assert old
    assert new != old
    assert not is_owner(old)
