"""Who may have what of a dataset, said to a daemon that runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from grid.cli.node import main

CSV = "age,sex,ill\n40,f,1\n51,m,0\n60,f,1\n"


class Daemon:
    """A node in a process of its own, and the commands of its owner."""

    def __init__(self, data: Path) -> None:
        self.data = data

    def __call__(self, *words: str, status: int = 0) -> str:
        done = CliRunner(env={"GRID_DATA": str(self.data)}).invoke(main, words)
        assert done.exit_code == status, done.output
        return done.output


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """It runs."""
    daemon = Daemon(tmp_path / "data")
    command = [sys.executable, "-m", "grid.cli.node", "start", "--port", "0", "--isolation", "prefer"]
    with subprocess.Popen([*command, "--data", str(daemon.data)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("listening on ")
        yield daemon
        process.terminate()


def test_permissions_are_said_shown_and_unsaid_and_a_mock_put_beside_the_data(daemon: Daemon, tmp_path: Path) -> None:
    table, mock, wrong = tmp_path / "t.csv", tmp_path / "mock.csv", tmp_path / "wrong.csv"
    table.write_text(CSV)
    mock.write_text("age,sex,ill\n1,f,0\n2,m,1\n")
    wrong.write_text("age,ill\n1,0\n2,1\n")
    assert len(daemon("user", "add", "olga").strip()) == 32
    daemon("group", "add", "heart")
    assert "Owner" in daemon("user", "list")
    daemon("dataset", "add", str(table), "--name", "scans", "--target", "ill", "--visibility", "hidden")
    assert daemon("dataset", "show", "scans") == "scans is hidden; mock: made from its description\n"

    daemon("dataset", "set", "scans", "--visibility", "private", "--description", "of a ward", "--tag", "#mri")
    daemon("dataset", "permit", "scans", "train", "--group", "heart")
    daemon("dataset", "forbid", "scans", "read", "--tensor", "target")
    daemon("dataset", "mock", "scans", str(mock), "--target", "ill")
    assert "a mock has the tensors of its dataset" in daemon("dataset", "mock", "scans", str(wrong), status=1)

    shown = daemon("dataset", "show", "scans").splitlines()
    assert shown[0] == "scans is private; mock: the owner's"
    assert [line.split() for line in shown[2:]] == [
        ["heart", "group", "all", "of", "it", "train", "may"],
        ["whoever", "asks", "target", "read", "may", "not"],
    ]
    assert "scans  3 examples  #mri" in daemon("dataset", "list")
    daemon("dataset", "unsay", "scans", "train", "--group", "heart")
    assert "nothing of the kind was said" in daemon("dataset", "unsay", "scans", "train", "--group", "heart", status=1)
    assert "nothing is to be changed" in daemon("dataset", "set", "scans", status=1)
    files = {path.name for path in (daemon.data / "blobs").rglob("*") if path.is_file()}
    daemon("dataset", "mock", "scans", "--drop-mock")
    left = {path.name for path in (daemon.data / "blobs").rglob("*") if path.is_file()}
    assert (len(files), len(left)) == (2, 1)
