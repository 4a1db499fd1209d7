"""Tokens in a file: who they are, and that a change to the file is whole or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from grid.node.tokens import TYPES, Tokens
from grid.transport.auth import Standing
from grid.wire.problems import BadRequest
from grid.wire.rights import Right

PHONE, TABLET, MAKER = "phone-0123456789abcdef", "tablet-0123456789abcdef", "maker-0123456789abcdef"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "tokens"
    file.write_text(f"# ours\nFleaClient {PHONE}\nFleaClient {TABLET} # the lent one\n\nFleaTaskGen {MAKER} ann\n")
    return file


async def test_each_token_is_somebody_of_its_own_with_the_rights_of_its_type(file: Path) -> None:
    tokens = Tokens(file)

    assert await tokens.reload() == 3
    phone, tablet, maker = map(tokens.bearer, (PHONE, TABLET, MAKER))
    assert phone is not None
    assert tablet is not None
    assert maker is not None
    assert phone.name != tablet.name
    assert (set(phone.rights), set(maker.rights)) == (set(), {str(Right.MAKE_REQUESTS)})
    assert tokens.bearer("nobody-0123456789abcdef") is None
    assert not any(caller.owner for caller in (phone, tablet, maker))


async def test_a_token_of_an_account_is_in_its_groups_and_has_no_more_rights_than_its_type(file: Path) -> None:
    owner = Standing("ann", frozenset({"clinics"}), frozenset(Right), owner=True)
    tokens = Tokens(file, {"ann": owner}.get)
    await tokens.reload()

    maker = tokens.bearer(MAKER)

    assert maker is not None
    assert (maker.name, set(maker.groups)) == ("ann", {"clinics"})
    assert maker.rights == TYPES["FleaTaskGen"]
    assert maker.owner is False


async def test_a_token_that_is_gone_from_the_file_opens_nothing_once_it_is_read_again(file: Path) -> None:
    tokens = Tokens(file)
    await tokens.reload()
    file.write_text(f"FleaClient {TABLET}")

    assert tokens.bearer(PHONE)
    await tokens.reload()
    assert tokens.bearer(PHONE) is None
    assert tokens.bearer(TABLET)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"FleaClient {PHONE}\nFleaBoss {MAKER}", "line 2"),
        ("FleaClient short", "could be guessed"),
        (f"FleaClient {PHONE}\nFleaAdmin {PHONE}", "another line"),
        ("FleaClient", "line 1"),
        (f"FleaClient {PHONE} ann bob", "line 1"),
        ("#" * (2 << 20), "more than"),
    ],
)
async def test_a_file_that_says_something_else_changes_nothing(file: Path, text: str, why: str) -> None:
    tokens = Tokens(file)
    await tokens.reload()
    file.write_text(text)

    with pytest.raises(BadRequest, match=why):
        await tokens.reload()
    assert tokens.bearer(MAKER)


async def test_a_file_that_is_not_there_is_refused_and_none_at_all_is_no_tokens(tmp_path: Path) -> None:
    assert await Tokens(None).reload() == 0
    with pytest.raises(BadRequest, match="cannot be read"):
        await Tokens(tmp_path / "missing").reload()
