"""Accounts at the command line: of a daemon that runs, and of one that does not."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from grid.cli import gateway, node

KEY = "k" * 43


class Desk:
    """The command of one daemon, on one folder."""

    def __init__(self, main: click.Group, data: Path) -> None:
        self._main, self._data = main, data

    def __call__(self, *words: str, fails: str = "") -> str:
        result: Result = CliRunner(env={"GRID_DATA": str(self._data)}).invoke(self._main, words)
        assert (result.exit_code, result.stderr) == (bool(fails), f"error: {fails}\n" if fails else "")
        return result.stdout


@pytest.mark.parametrize(("main", "owner"), [(node.main, "Owner"), (gateway.main, "Network Owner")])
def test_the_first_account_owns_a_daemon_and_gets_a_password_that_is_shown_once(
    main: click.Group, owner: str, tmp_path: Path
) -> None:
    desk = Desk(main, tmp_path)

    assert len(desk("user", "add", "ann", "--email", "ann@example.org").strip()) == 32
    desk("user", "add", "ann", fails="there is an account ann")
    assert desk("user", "add", "bob", "--key", KEY) == ""
    lines = desk("user", "list").splitlines()
    assert [line.split("  ")[0].strip() for line in lines] == ["name", "ann", "bob"]
    assert owner in lines[1]
    assert KEY in lines[2]
    assert desk("user", "remove", "bob") == "the account bob was removed\n"
    desk("user", "remove", "bob", fails="there is no account bob")


def test_roles_groups_and_sessions_are_the_owners_business(tmp_path: Path) -> None:
    desk = Desk(node.main, tmp_path)
    desk("user", "add", "ann")

    desk("role", "add", "Curator", "upload-data", "create-groups")
    desk("role", "set", "Curator", "upload-data")
    desk(
        "role",
        "set",
        "Administrator",
        fails="Administrator is a preset role, which stays as it is; make one of your own",
    )
    desk("group", "add", "cardiology")
    desk("user", "add", "bob", "--role", "Curator", "--group", "cardiology")
    assert "bob" in desk("group", "list")
    desk("group", "leave", "cardiology", "bob")
    desk("group", "leave", "cardiology", "bob", fails="bob is not in cardiology")
    desk("group", "join", "cardiology", "bob")
    desk("role", "remove", "Curator", fails="accounts have this role; give them another one first")
    assert len(desk("user", "set", "bob", "--role", "User", "--new-password", "--key", KEY).strip()) == 32
    desk("user", "set", "bob", fails="nothing is to be changed; see --help")
    assert desk("role", "remove", "Curator") == "the role Curator was removed\n"
    assert desk("group", "remove", "cardiology") == "the group cardiology was removed\n"
    assert desk("session", "list").split() == ["session", "account", "from", "since", "used"]
    desk("session", "end", "none", fails="there is no such session")
