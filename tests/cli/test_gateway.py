from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from click.testing import CliRunner

from grid.cli.gateway import main

ROOT = Path(__file__).parents[2]
RSS_LIMIT = 70_000


@contextmanager
def gateway(data: Path, *flags: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A gateway as a process of its own: its address, and the process."""
    command = [sys.executable, "-c", "from grid.cli.gateway import main; main()", "start", "--data", str(data), *flags]
    env = {name: value for name, value in os.environ.items() if not name.startswith("GRID_") and name != "PORT"}
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert line.startswith("listening on http://127.0.0.1:"), process.communicate()
            yield line.removeprefix("listening on ").strip(), process
        finally:
            process.kill()


def call(method: str, url: str, body: object = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urlopen(request, timeout=5) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        return error.code, json.load(error)


def rss(process: subprocess.Popen[str]) -> int:
    """KiB that a process has in memory."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


BOB = {"node-id": "Bob", "node-address": "http://127.0.0.1:9"}


def test_a_gateway_starts_lists_ends_and_remembers(tmp_path: Path) -> None:
    with gateway(tmp_path / "data", "--port", "0") as (address, process):
        assert call("POST", f"{address}/join", BOB)[0] == 200
        assert rss(process) < RSS_LIMIT
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=10)
        assert (process.returncode, out) == (0, "")
        assert err.count("shown this once") == 1

    with gateway(tmp_path / "data", "--config", str(ROOT / "config" / "gateway.toml"), "--port", "0") as (
        address,
        process,
    ):
        assert call("GET", f"{address}/connected-nodes")[1]["grid-nodes"] == ["Bob"]
        process.send_signal(signal.SIGTERM)
        assert "shown this once" not in process.communicate(timeout=10)[1]
    assert oct((tmp_path / "data" / "identity.key").stat().st_mode)[-3:] == "600"


def test_a_gateway_that_was_killed_has_what_it_acknowledged(tmp_path: Path) -> None:
    with gateway(tmp_path, "--port", "0") as (address, process):
        call("POST", f"{address}/join", BOB)
        process.kill()
        process.wait()

    with gateway(tmp_path, "--port", "0", "--no-allow-unsigned", "--no-allow-private") as (address, _):
        assert call("GET", f"{address}/connected-nodes")[1]["grid-nodes"] == ["Bob"]
        assert call("POST", f"{address}/join", BOB | {"node-id": "Carol"})[0] == 403


def test_one_data_directory_is_for_one_gateway(tmp_path: Path) -> None:
    with gateway(tmp_path, "--port", "0"):
        result = CliRunner().invoke(main, ["start", "--port", "0", "--data", str(tmp_path)])

    assert result.exit_code == 1
    assert "another process works with this data directory" in result.output


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--port", "high"], "--port"),
        (["--lease", "0"], "--lease"),
        (["--config", "/no/such/file"], "--config"),
        (["--hots", "0.0.0.0"], "No such option"),
    ],
)
def test_a_flag_that_makes_no_sense_is_named(flags: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["start", *flags])

    assert result.exit_code == 2
    assert said in result.output


def test_a_data_directory_that_others_can_read_the_key_of_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "identity.key"
    key.write_text("whatever")
    key.chmod(0o644)

    result = CliRunner().invoke(main, ["start", "--port", "0", "--data", str(tmp_path)])

    assert result.exit_code == 1
    assert "chmod 600" in result.output
