"""Node and network associated at the command line: both daemons run, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from grid.cli import gateway, node


class Daemon:
    """A daemon in a process of its own, and the commands of its owner."""

    def __init__(self, main: click.Group, data: Path, address: str) -> None:
        self._main, self._data, self.address = main, data, address

    def __call__(self, *words: str, status: int = 0) -> str:
        done = CliRunner(env={"GRID_DATA": str(self._data)}).invoke(self._main, words)
        assert done.exit_code == status, done.output
        return done.output


@contextmanager
def started(module: str, data: Path, *words: str) -> Iterator[str]:
    """The address at which it answers."""
    command = [sys.executable, "-m", module, "start", "--port", "0", *words, "--data", str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on "), line
        yield line.split()[-1]
        process.terminate()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Daemon, Daemon]]:
    """A node and a gateway."""
    with ExitStack() as stack:
        at = stack.enter_context(started("grid.cli.node", tmp_path / "node", "--isolation", "prefer", "--id", "ward"))
        there = stack.enter_context(started("grid.cli.gateway", tmp_path / "gateway"))
        yield Daemon(node.main, tmp_path / "node", at), Daemon(gateway.main, tmp_path / "gateway", there)


def test_a_network_reads_a_nodes_statistics_from_the_acceptance_to_the_end(two: tuple[Daemon, Daemon]) -> None:
    ward, network = two
    ward("user", "add", "olga")

    asked = ward("association", "ask", network.address)
    number = asked.split()[0]
    assert f"{number} is asked" in asked
    (line,) = network("association", "list").splitlines()[1:]
    assert line.split()[:5] == [number, "node", "ward", ward.address, "received"]
    assert "no such association, or it does not hold" in network("association", "statistics", number, status=1)
    assert network("association", "accept", number) == f"{number} is active\n"
    told = network("association", "statistics", number).splitlines()
    assert told[:2] == ["datasets 0  tensors 0  tags 0", "accounts 1  groups 0  roles 4"]
    assert told == ward("statistics").splitlines()
    assert ward("association", "end", number) == f"{number} is ended\n"
    assert "active" not in network("association", "list")
    assert "does not hold now" in network("association", "statistics", number, status=1)
    assert "0 associations begin with ffffff" in network("association", "deny", "ffffff", status=1)
