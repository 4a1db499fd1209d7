from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from grid.cli.daemon import alone, daemon_of, reachable
from grid.cli.plainly import Plainly
from grid.wire.problems import NotAllowed


def test_a_daemon_is_found_while_it_lives(tmp_path: Path) -> None:
    with alone(tmp_path) as post:
        post.announce("http://0.0.0.0:5001")
        with daemon_of(tmp_path) as running:
            assert running is not None
            assert running.address == "http://127.0.0.1:5001"
    with daemon_of(tmp_path) as running:
        assert running is None


def test_no_daemon_starts_while_a_command_works_on_its_files(tmp_path: Path) -> None:
    with daemon_of(tmp_path), pytest.raises(BlockingIOError), alone(tmp_path):
        pass


def test_two_commands_work_beside_each_other(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as one, daemon_of(tmp_path) as other:
        assert one is other is None


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    with alone(tmp_path / "new"):
        assert [path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()] == [0o600]
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("listens", "reached"),
    [
        ("http://0.0.0.0:80", "http://127.0.0.1:80"),
        ("http://[::]:80", "http://[::1]:80"),
        ("http://10.0.0.7:80", "http://10.0.0.7:80"),
        ("http://localhost:80", "http://localhost:80"),
    ],
)
def test_what_listens_everywhere_is_reached_on_loopback(listens: str, reached: str) -> None:
    assert reachable(listens) == reached


@pytest.mark.parametrize("error", [NotAllowed("no"), OSError("no")])
def test_a_refusal_is_one_line_and_no_traceback(error: Exception) -> None:
    @click.group(cls=Plainly)
    def main() -> None: ...

    @main.command()
    def fail() -> None:
        raise error

    result = CliRunner().invoke(main, ["fail"])
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "error: no\n")
