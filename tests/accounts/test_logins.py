"""Signing in with a password: few guesses, short tokens, sessions that end."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from grid.accounts.house import House, open_house
from grid.accounts.logins import FAILURES, FAILURES_FROM, SESSION, TOKEN, WINDOW
from grid.accounts.passwords import is_old
from grid.protocol.roles import NODE_ROLES
from grid.store.database import Database
from grid.transport.auth import OWNER
from grid.wire.accounts import Login
from grid.wire.problems import NotAuthenticated, NotFound, TooManyRequests
from tests.accounts.conftest import DAEMON, PASSWORD, QUICK
from tests.gateway.fakes import Clock


async def ann(house: House) -> Login:
    """An account that has a password."""
    await house.people.create(OWNER, "olga")
    await house.people.create(OWNER, "ann", PASSWORD, "ann@example.org")
    return Login("ann", PASSWORD)


async def test_a_caller_is_who_the_password_says_and_the_file_does_not_have_it(house: House, tmp_path: Path) -> None:
    await ann(house)

    for name in ("ann", "ann", "ann@example.org"):  # tried, remembered, and by another name
        caller = await house.logins.check(name, PASSWORD)
        assert (caller.account, caller.owner, caller.public) == ("ann", False, None)
    said = set()
    for name, password in (("ann", "another password"), ("eve", PASSWORD), ("olga", ""), ("ann", "")):
        with pytest.raises(NotAuthenticated) as refused:
            await house.logins.check(name, password)
        said.add(refused.value.detail)
    assert len(said) == 1  # whether there is such an account is not said
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert b"ann@example.org" in files
    assert PASSWORD.encode() not in files
    await house.people.remove(OWNER, "ann")
    with pytest.raises(NotAuthenticated):
        await house.logins.check("ann", PASSWORD)


async def test_wrong_passwords_are_tried_only_so_often_in_a_minute(house: House, clock: Clock) -> None:
    await ann(house)
    for _ in range(FAILURES):
        with pytest.raises(NotAuthenticated):
            await house.logins.check("ann", "a guess")
    with pytest.raises(TooManyRequests):
        await house.logins.check("ann", PASSWORD)
    clock.passes(WINDOW + 1)
    await house.logins.check("ann", PASSWORD)

    for n in range(FAILURES_FROM):
        with pytest.raises(NotAuthenticated):
            await house.logins.check(f"name-{n}", PASSWORD, "192.0.2.1")
    with pytest.raises(TooManyRequests):
        await house.logins.check("one-more", PASSWORD, "192.0.2.1")
    with pytest.raises(NotAuthenticated):
        await house.logins.check("one-more", PASSWORD, "192.0.2.2")


async def test_a_token_is_good_for_minutes_and_its_session_goes_on_by_words_that_are_good_once(
    house: House, clock: Clock
) -> None:
    first = await house.logins.login(await ann(house), "192.0.2.1")
    caller = house.logins.bearer(first.token)
    assert caller is not None
    assert (caller.account, caller.kind, caller.owner) == ("ann", "token", False)

    clock.passes(TOKEN)
    assert house.logins.bearer(first.token) is None
    second = await house.logins.refresh(first.refresh)
    assert house.logins.bearer(second.token) is not None
    with pytest.raises(NotAuthenticated, match="two hold it"):
        await house.logins.refresh(first.refresh)
    assert house.logins.bearer(second.token) is None  # whoever of the two was the thief has nothing
    with pytest.raises(NotAuthenticated):
        await house.logins.refresh(second.refresh)


async def test_a_session_ends_when_nobody_goes_on_with_it(house: House, clock: Clock) -> None:
    tokens = await house.logins.login(await ann(house), "")
    clock.passes(SESSION)

    with pytest.raises(NotAuthenticated, match="over"):
        await house.logins.refresh(tokens.refresh)
    assert house.logins.visible(OWNER) == []
    await house.logins.login(Login("ann", PASSWORD), "")
    assert len(house.book.sessions) == 1


@pytest.mark.parametrize("token", ["", "a", "a.b", "ä.b", "gqFhAQ.gqFhAQ", "." * 9])
async def test_what_is_no_token_opens_nothing(house: House, token: str) -> None:
    await ann(house)

    assert house.logins.bearer(token) is None
    with pytest.raises(NotAuthenticated):
        await house.logins.refresh(token)


async def test_a_token_of_another_daemon_opens_nothing(house: House, tmp_path: Path, clock: Clock) -> None:
    tokens = await house.logins.login(await ann(house), "")
    signed, signature = tokens.token.split(".")

    assert house.logins.bearer(f"A{signed[1:]}.{signature}") is None
    async with Database(tmp_path / "other.db", "node") as other:
        there = open_house(other, DAEMON, NODE_ROLES, clock, QUICK)
        assert there.logins.bearer(tokens.token) is None  # the same key, and no such session


async def test_sessions_are_seen_and_ended_by_their_own_and_by_who_makes_users(
    house: House, database: Database
) -> None:
    login = await ann(house)
    one, two = [await house.logins.login(login, place) for place in ("192.0.2.1", "192.0.2.2")]
    caller = house.logins.bearer(one.token)
    assert caller is not None

    assert {(name, row.place) for row, name in house.logins.visible(caller)} == {
        ("ann", "192.0.2.1"),
        ("ann", "192.0.2.2"),
    }
    await house.people.create(OWNER, "eve", PASSWORD)
    eve = house.logins.bearer((await house.logins.login(Login("eve", PASSWORD), "")).token)
    assert eve is not None
    with pytest.raises(NotFound):
        await house.logins.end(eve, one.refresh.partition(".")[0])
    await house.logins.end(caller, two.refresh.partition(".")[0])
    assert house.logins.bearer(two.token) is None
    await house.logins.end_all("ann", but=caller.session)
    assert house.logins.bearer(one.token) is not None
    await house.logins.end(OWNER, one.refresh.partition(".")[0])
    assert house.logins.bearer(one.token) is None
    assert len(open_house(database, DAEMON, NODE_ROLES, Clock(), QUICK).book.sessions) == 1


async def test_what_scrypt_kept_is_kept_by_argon2id_once_it_was_used(house: House, database: Database) -> None:
    await ann(house)
    salt = b"s" * 16
    old = f"$scrypt${salt.hex()}${hashlib.scrypt(PASSWORD.encode(), salt=salt, n=2**14, r=8, p=1).hex()}"
    row = house.book.account("ann")
    await database.write(lambda c: c.execute("UPDATE accounts SET password = ? WHERE id = ?", (old, row.id)))
    await house.book.reread(row.id)

    await house.logins.check("ann", PASSWORD)

    assert not is_old(house.book.account("ann").password)
    await house.logins.check("ann", PASSWORD)
