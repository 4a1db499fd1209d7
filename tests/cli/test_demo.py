from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from click.testing import CliRunner

from grid.cli.demo import demo, process_age

COMMAND = [sys.executable, "-m", "grid.cli.node", "demo"]


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[Path]:
    """Where a demo puts its folder; whatever still runs there at the end is ended."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    yield folder
    for pid in processes_in(folder):
        os.kill(pid, signal.SIGKILL)


def processes_in(folder: Path) -> list[int]:
    """Processes that work in a folder, or were started with it as an argument."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and concerns(entry, folder)]


def concerns(process: Path, folder: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes().decode(errors="replace")
        return str(folder) in words or (process / "cwd").readlink().is_relative_to(folder)
    except OSError:
        return False  # it has just ended


def begin(temporary: Path, *flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "--rows", "600", f"--report={temporary.parent / 'report.html'}", *flags],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_demo_trains_tells_and_leaves_nothing_but_its_report(temporary: Path) -> None:
    process = begin(temporary, "--rounds=3", "--json")
    said, told = process.communicate(timeout=120)

    assert process.returncode == 0, told
    figures: dict[str, Any] = json.loads(said.splitlines()[-1])
    assert figures["rounds"] == 3
    assert len(figures["nodes"]) == 3
    assert all(0.2 < figure <= 1 for figure in (*figures["nodes"], figures["federated"], figures["pooled"]))
    assert 0 < figures["first_round_s"] < figures["seconds"]
    assert figures["bytes"] > 3 * 3 * 2 * 70_000
    assert len(re.findall(r"^ +\d  +0\.\d{4} ", told, re.MULTILINE)) == 3
    assert "federated" in (temporary.parent / "report.html").read_text()
    assert list(temporary.iterdir()) == []
    assert processes_in(temporary) == []


@pytest.mark.slow
def test_a_demo_of_nodes_without_ports_trains_as_well(temporary: Path) -> None:
    process = begin(temporary, "--rounds=2", "--no-listen", "--json")
    said, told = process.communicate(timeout=120)

    assert process.returncode == 0, told
    assert json.loads(said.splitlines()[-1])["rounds"] == 2
    assert told.count("/v1/mailboxes/") == 3
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("ports", ["--listen", "--no-listen"])
def test_a_demo_without_a_gateway_outlives_the_peer_that_all_met_through(temporary: Path, ports: str) -> None:
    process = begin(temporary, "--rounds=3", "--dht", ports, "--json")
    said, told = process.communicate(timeout=120)

    assert process.returncode == 0, told
    assert json.loads(said.splitlines()[-1])["rounds"] == 3
    assert "first    was killed" in told
    assert "a gateway" not in told
    assert len(list(temporary.iterdir())) <= 1  # where the killed one had its socket


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_with_its_defaults_training_together_beats_each_share_alone_and_comes_close_to_all_data(
    temporary: Path,
) -> None:
    command = [*COMMAND, f"--report={temporary.parent / 'report.html'}", "--json"]
    done = subprocess.run(
        command, env={**os.environ, "TMPDIR": str(temporary)}, capture_output=True, text=True, timeout=220, check=False
    )

    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert figures["federated"] > max(figures["nodes"])
    assert figures["federated"] >= 0.98 * figures["pooled"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["gateway", "search"])
def test_a_signal_stops_all_that_was_started(temporary: Path, number: signal.Signals, moment: str) -> None:
    process = begin(temporary, "--rounds=1000")
    assert process.stdout is not None
    for line in process.stdout:
        if (moment in line and "://" in line) or "#digits" in line:
            break
    process.send_signal(number)
    process.communicate(timeout=60)

    assert process.returncode == 128 + number
    assert list(temporary.iterdir()) == []
    assert processes_in(temporary) == []


@pytest.mark.slow
def test_a_grid_that_is_kept_answers_until_it_is_told_to_stop(temporary: Path) -> None:
    process = begin(temporary, "--rounds=1", "--nodes=2", "--keep")
    said, told = process.communicate(timeout=120)
    assert process.returncode == 0, told

    gateway = re.search(r"curl (http://\S+)/search-available-tags", said)
    stop = re.search(r"kill ([\d ]+); rm -r (\S+)", said)
    assert gateway
    assert stop
    search = Request(f"{gateway[1]}/search", b'{"query": ["#digits"]}', {"Content-Type": "application/json"})
    with urlopen(search, timeout=5) as answer:
        assert sorted(node for node, _ in json.load(answer)["node-addresses"]) == ["alice", "bob"]

    for pid in stop[1].split():
        os.kill(int(pid), signal.SIGTERM)
    deadline = time.monotonic() + 20
    while processes_in(temporary) and time.monotonic() < deadline:
        os.sched_yield()
    assert processes_in(temporary) == []
    assert Path(stop[2]).is_dir()


@pytest.mark.slow
def test_a_node_that_dies_while_starting_is_shown_with_the_end_of_its_log(temporary: Path, tmp_path: Path) -> None:
    # The second daemon of this python says why it cannot go on, and ends.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nif '--id=bob' in sys.orig_argv: sys.exit('bob has no disk left')\n"
    )
    process = subprocess.Popen(
        [*COMMAND, "--rows=600"],
        env={**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(tmp_path)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    told = process.communicate(timeout=60)[1]

    assert process.returncode == 1
    assert "bob ended with status 1; the end of its log:" in told
    assert "bob has no disk left" in told
    assert processes_in(temporary) == []


def test_too_few_rows_are_refused_before_anything_starts() -> None:
    done = CliRunner().invoke(demo, ["--rows", "60"])

    assert done.exit_code == 1
    assert "60 rows are too few for 3 nodes" in done.output


def test_a_report_that_could_not_be_written_is_refused_before_anything_starts(tmp_path: Path) -> None:
    done = CliRunner().invoke(demo, ["--report", str(tmp_path / "nowhere" / "report.html")])

    assert done.exit_code == 2
    assert "there is no folder" in done.output


def test_a_process_knows_its_age() -> None:
    first = process_age()

    assert 0 < first <= process_age() < 3600 * 24
