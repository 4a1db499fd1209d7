"""What a room cannot import, it cannot do: the contracts of pyproject.toml, shown to bite, and what really loads."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
FLOORS = CONTRACTS[0]["layers"]
ROOMS = [room for floor in FLOORS for room in floor.split(" | ") if not room.startswith("(")]

# A grid with all rooms and nothing in them but what the contracts speak of.
BARE = {
    **{f"grid/{room}/__init__.py": "" for room in ROOMS},
    "grid/__init__.py": "",
    "grid/client/study.py": "from grid.learning import torches",
    "grid/crypto/sealing.py": "",
    "grid/learning/torches.py": "import numpy, torch",
    "grid/node/ingest.py": "from grid.learning import torches\nfrom grid.node import parquet",
    "grid/node/parquet.py": "import duckdb",
    "grid/cli/files.py": "import grid.node.ingest",
    **{f"grid/dht/{name}.py": "" for name in ("answers", "ids", "lookup", "records", "shelf", "table")},
}

BREACHES = {
    "a floor below": ("grid/wire/x.py", "import grid.protocol", "A room imports from floors below it"),
    "sideways": ("grid/gateway/x.py", "from grid import node", "A room imports from floors below it"),
    "a room off the plan": ("grid/shed/__init__.py", "", "A room imports from floors below it"),
    "a gateway that reads": (
        "grid/gateway/x.py",
        "import grid.crypto.sealing",
        "A gateway and a relay can neither compute nor read",
    ),
    "a gateway that computes": (
        "grid/gateway/x.py",
        "import grid.client.study",
        "A gateway and a relay can neither compute nor read",
    ),
    "a relay that reads": (
        "grid/relay/x.py",
        "import grid.crypto.sealing",
        "A gateway and a relay can neither compute nor read",
    ),
    "rules with a clock": ("grid/protocol/x.py", "from time import time", "Rules have no world"),
    "a table that calls": (
        "grid/dht/table.py",
        "import asyncio",
        "What the network without a centre believes has no world",
    ),
    "words that log": ("grid/wire/x.py", "import logging", "Rules have no world"),
    "keys on a socket": ("grid/crypto/x.py", "import socket", "Sealing is bytes in, bytes out"),
    "a daemon with arrays": ("grid/node/x.py", "import grid.learning.torches", "The node daemon does no arithmetic"),
    "a daemon that reads files": ("grid/node/x.py", "import grid.node.ingest", "Only the command line turns files"),
    "a daemon that reads tables": ("grid/node/x.py", "import duckdb", "The node daemon does no arithmetic"),
    "a gateway in made-up time": (
        "grid/gateway/x.py",
        "import grid.simulation",
        "Time is made up for the command line only",
    ),
    "torch upstairs": ("grid/worker/x.py", "import torch", "Only learning knows torch"),
    "SQL upstairs": ("grid/node/x.py", "import sqlite3", "Only the store knows SQL"),
}


def build(where: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (where / name).parent.mkdir(parents=True, exist_ok=True)
        (where / name).write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "pyproject.toml", where)
    return where


def lint(where: Path) -> str:
    """What import-linter says of the package there; ends with how many contracts were broken."""
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([program, "--no-cache"], cwd=where, capture_output=True, text=True, check=False).stdout


def test_a_house_built_to_the_plan_passes(tmp_path: Path) -> None:
    assert "0 broken" in lint(build(tmp_path, BARE))


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_of_the_plan_is_found(breach: str, tmp_path: Path) -> None:
    file, line, contract = BREACHES[breach]

    said = lint(build(tmp_path, {**BARE, file: line}))

    broken = [line for line in said.splitlines() if line.endswith("BROKEN") or "BROKEN (" in line]
    assert broken, said
    assert broken[0].startswith(contract), said


LOADED = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(getattr(package, "__path__", ()), name + "."):
        if module.name not in ("grid.node.ingest", "grid.node.parquet"):
            importlib.import_module(module.name)
print(*sys.modules)
"""


def loaded_with(*rooms: str) -> set[str]:
    """Every module that a fresh process has once it has imported all of these rooms."""
    done = subprocess.run([sys.executable, "-c", LOADED, *rooms], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_a_gateway_process_holds_nothing_that_computes_or_reads() -> None:
    loaded = loaded_with("grid.gateway")

    assert not loaded & {"numpy", "torch", "grid.learning", "grid.worker", "grid.crypto.sealing"}


def test_a_node_process_holds_no_arrays() -> None:
    assert not loaded_with("grid.node") & {"numpy", "torch", "duckdb", "sklearn"}


def test_a_client_needs_the_base_install_only() -> None:
    rooms = ["grid.client", *(["grid.cli.grid"] if (ROOT / "grid" / "cli" / "grid.py").exists() else [])]

    assert not loaded_with(*rooms) & {"numpy", "torch", "prometheus_client", "uvloop", "sqlite3"}
