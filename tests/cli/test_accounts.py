from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from grid.cli.gateway import main


def account(data: Path, *words: str) -> Result:
    return CliRunner(env={"GRID_DATA": str(data)}).invoke(main, ["account", *words])


def test_an_account_is_made_with_a_password_that_is_shown_once(tmp_path: Path) -> None:
    made = account(tmp_path, "add", "ann", "--email", "ann@example.org")
    assert made.exit_code == 0, made.stderr
    assert len(made.stdout.strip()) == 32

    again = account(tmp_path, "add", "ann")
    assert (again.exit_code, again.stderr) == (1, "error: there is an account ann\n")
    assert account(tmp_path, "list").stdout == "1  ann  ann@example.org\n"
    assert account(tmp_path, "remove", "1").exit_code == 0
    assert account(tmp_path, "list").stdout == ""
    assert account(tmp_path, "remove", "1").exit_code == 1
