"""Who may do what with data: the whole table, and what the words mean together."""

from __future__ import annotations

from itertools import product

import pytest

from grid.protocol.permission import ACTIONS, Permission, Rules, at_large, decide

ALLOW, DENY, UNSET = True, False, None

TABLE = {  # (user, group, tensor) -> what is decided where all the rest is closed, and where it is open
    **{(ALLOW, group, tensor): (True, True) for group, tensor in product((ALLOW, DENY, UNSET), repeat=2)},
    **{(DENY, group, tensor): (False, False) for group, tensor in product((ALLOW, DENY, UNSET), repeat=2)},
    **{(UNSET, ALLOW, tensor): (True, True) for tensor in (ALLOW, DENY, UNSET)},
    **{(UNSET, DENY, tensor): (False, False) for tensor in (ALLOW, DENY, UNSET)},
    (UNSET, UNSET, ALLOW): (True, True),
    (UNSET, UNSET, DENY): (False, False),
    (UNSET, UNSET, UNSET): (False, True),
}


def test_the_table_has_all_27_cases() -> None:
    assert set(TABLE) == set(product((ALLOW, DENY, UNSET), repeat=3))


@pytest.mark.parametrize(("said", "decided"), TABLE.items())
def test_user_goes_before_group_and_group_before_tensor(
    said: tuple[bool | None, bool | None, bool | None], decided: tuple[bool, bool]
) -> None:
    assert (decide(*said, otherwise=False), decide(*said, otherwise=True)) == decided
    permissions = [
        Permission(subject, name, "age", "read", allow)
        for (subject, name), allow in zip((("user", "sue"), ("group", "heart"), ("tensor", "")), said, strict=True)
        if allow is not None
    ]
    rules = Rules(permissions)
    assert rules.allows(False, "read", "sue", {"heart"}, "age") == decided[0]
    assert rules.allows(True, "read", "sue", {"heart"}, "age") == decided[1]


def test_public_is_for_accounts_private_is_found_and_hidden_is_not() -> None:
    table = {
        (visibility, account): "".join("x" if at_large(visibility, a, account=account) else "-" for a in ACTIONS)  # type: ignore[arg-type]
        for visibility in ("public", "private", "hidden")
        for account in (True, False)
    }

    assert table == {
        ("public", True): "xxx",
        ("public", False): "x--",
        ("private", True): "x--",
        ("private", False): "x--",
        ("hidden", True): "---",
        ("hidden", False): "---",
    }


def test_of_two_groups_the_one_that_may_not_decides() -> None:
    rules = Rules([Permission("group", "heart", "", "read", True), Permission("group", "interns", "", "read", False)])

    assert rules.allows(False, "read", "sue", {"heart"})
    assert not rules.allows(True, "read", "sue", {"heart", "interns"})


def test_a_word_about_one_tensor_outweighs_one_about_all_of_the_same_subject() -> None:
    rules = Rules(
        [
            Permission("user", "sue", "", "train", True),
            Permission("user", "sue", "names", "train", False),
            Permission("group", "heart", "names", "train", True),
        ]
    )

    assert rules.allows(False, "train", "sue", {"heart"}, "age")
    assert not rules.allows(False, "train", "sue", {"heart"}, "names")
    assert rules.allows(False, "train", "bob", {"heart"}, "names")
    assert not rules.allows(False, "train", "bob", {"heart"}, "age")
