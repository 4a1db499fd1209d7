"""Accounts: who may make, change and remove whom."""

from __future__ import annotations

import pytest

from grid.accounts.house import House, open_house
from grid.crypto.identity import Identity
from grid.protocol.documents import sign_document
from grid.protocol.roles import NODE_ROLES, Role
from grid.store.database import Database
from grid.transport.auth import OWNER, Caller
from grid.wire.accounts import ACCOUNT_KEY, KeyOf
from grid.wire.problems import AccountRefused, BadSignature, NotAllowed, NotFound, Replayed
from grid.wire.rights import Right
from tests.accounts.conftest import DAEMON, PASSWORD, QUICK
from tests.gateway.fakes import Clock

ANNS, EVES = (Identity.from_seed(bytes([n]) * 32) for n in (7, 8))


def caller(house: House, name: str) -> Caller:
    """As who has signed in to an account."""
    standing = house.book.standing_of(house.book.account(name))
    return Caller(None, None, standing.owner, "token", name, standing.groups, standing.rights)


async def staffed(house: House) -> None:
    """An owner, an administrator, an officer and a user."""
    await house.people.create(OWNER, "olga")
    for name, role in (("adam", "Administrator"), ("cora", "Compliance Officer"), ("ursula", "User")):
        await house.people.create(OWNER, name, role=role)


async def test_the_first_account_is_the_owners_and_the_next_may_ask_only(house: House) -> None:
    await house.people.create(OWNER, "olga")
    await house.people.create(OWNER, "ursula")

    assert caller(house, "olga").owner
    assert caller(house, "ursula").rights == {Right.MAKE_REQUESTS}


async def test_nobody_gives_or_takes_more_than_they_have(house: House) -> None:
    await staffed(house)
    adam, cora, olga = (caller(house, name) for name in ("adam", "cora", "olga"))

    await house.people.create(adam, "nina", role="Compliance Officer")
    await house.people.change(adam, "nina", role="Administrator")
    for who, name, role in (
        (adam, "nina", "Owner"),
        (olga, "nina", "Owner"),  # an owner is made by the daemon's operator alone
        (adam, "olga", "User"),
        (cora, "ursula", "Compliance Officer"),
        (caller(house, "ursula"), "ursula", "Administrator"),
    ):
        with pytest.raises(NotAllowed):
            await house.people.change(who, name, role=role)
    with pytest.raises(NotAllowed):
        await house.people.remove(adam, "olga")
    with pytest.raises(NotAllowed):
        await house.people.remove(cora, "ursula")
    await house.people.remove(adam, "nina")
    with pytest.raises(NotFound):
        await house.people.remove(adam, "nina")


async def test_custom_roles_have_no_right_that_their_maker_has_not(house: House) -> None:
    await staffed(house)
    olga = caller(house, "olga")
    made = await house.roles.put(olga, "Role maker", [Right.EDIT_ROLES, Right.CREATE_USERS])
    await house.people.change(OWNER, "ursula", role="Role maker")
    ursula = caller(house, "ursula")

    with pytest.raises(NotAllowed, match="upload-data"):
        await house.roles.put(ursula, "Curator", [Right.UPLOAD_DATA])
    await house.roles.put(ursula, "Helper", [Right.CREATE_USERS])
    with pytest.raises(AccountRefused, match="preset"):
        await house.roles.put(olga, "Owner", [], before="Owner")
    with pytest.raises(AccountRefused, match="accounts have this role"):
        await house.roles.remove(olga, "Role maker")
    with pytest.raises(AccountRefused, match="there is a role"):
        await house.roles.put(olga, "Administrator", [])
    assert (made.id, made) == (101, Role(101, "Role maker", frozenset({Right.EDIT_ROLES, Right.CREATE_USERS})))
    changed = await house.roles.put(olga, "Role maker", [Right.EDIT_ROLES], before="Role maker")
    assert caller(house, "ursula").rights == changed.rights == {Right.EDIT_ROLES}


async def test_one_sees_oneself_and_who_works_with_accounts_sees_all(house: House) -> None:
    await staffed(house)

    assert [row.name for row in house.people.visible(caller(house, "ursula"))] == ["ursula"]
    assert [row.name for row in house.people.visible(caller(house, "cora"))] == ["olga", "adam", "cora", "ursula"]
    assert house.people.visible(Caller(None, ANNS.id, owner=False, kind="session")) == []


async def test_a_key_stands_for_an_account_at_its_own_word_only(house: House, clock: Clock) -> None:
    await staffed(house)
    ursula = caller(house, "ursula")

    def proof(account: str, daemon: str = DAEMON.id, until: float = 60.0) -> object:
        return sign_document(ANNS, ACCOUNT_KEY, KeyOf(account, daemon, clock() + until))

    for wrong, error in (
        (proof("adam"), BadSignature),
        (proof("ursula", daemon=EVES.id), BadSignature),
        (proof("ursula", until=-1.0), Replayed),
        (None, NotAllowed),
    ):
        with pytest.raises(error):
            await house.people.add_key(ursula, "ursula", ANNS.id, wrong)  # type: ignore[arg-type]
    with pytest.raises(BadSignature):
        await house.people.add_key(ursula, "ursula", EVES.id, proof("ursula"))  # type: ignore[arg-type]
    await house.people.add_key(ursula, "ursula", ANNS.id, proof("ursula"))  # type: ignore[arg-type]

    standing = house.book.standing(ANNS.id)
    assert standing is not None
    assert (standing.account, house.book.name_of(ANNS.id), house.book.name_of(EVES.id)) == ("ursula", "ursula", EVES.id)
    with pytest.raises(AccountRefused, match="another account"):
        await house.people.add_key(OWNER, "cora", ANNS.id)
    await house.people.remove_key(ursula, "ursula", ANNS.id)
    assert house.book.standing(ANNS.id) is None


@pytest.mark.parametrize(
    ("name", "password"),
    [("adam", PASSWORD), ("cardiology", PASSWORD), ("a:b", PASSWORD), ("", PASSWORD), ("k" * 43, ""), ("bob", "short")],
)
async def test_what_could_not_be_told_apart_or_is_guessed_is_no_account(house: House, name: str, password: str) -> None:
    await staffed(house)
    await house.groups.put("cardiology")

    with pytest.raises(AccountRefused):
        await house.people.create(OWNER, name, password)
    with pytest.raises(AccountRefused):
        await house.groups.put("adam")


async def test_everything_is_there_again_after_a_restart(house: House, database: Database, clock: Clock) -> None:
    await staffed(house)
    await house.groups.put("cardiology")
    await house.groups.join("cardiology", "ursula")
    await house.groups.put("heart", before="cardiology")
    await house.people.add_key(OWNER, "ursula", ANNS.id)

    again = open_house(database, DAEMON, NODE_ROLES, clock, QUICK)

    assert again.book.accounts == house.book.accounts
    standing = again.book.standing(ANNS.id)
    assert standing is not None
    assert (standing.account, standing.groups) == ("ursula", {"heart"})
