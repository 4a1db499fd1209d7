"""Models and updates in fewer bytes: how many fewer, and what that does to the demo's accuracy."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.row import Row
from grid.learning.plan import Plan
from grid.learning.scheme import Scheme
from grid.learning.strategy import named, travelling
from grid.learning.tensors import header_bytes

SIZES = [64, 1500, 1600, 10]
"""A perceptron of 2.5 million parameters, 10 MB."""


def rows() -> Iterator[Row]:
    """The rows of this benchmark."""
    plan = Plan.mlp(SIZES)
    exact = _bytes(plan, "exact")
    ratio = _bytes(plan, "int8") / exact
    yield Row("uploads.int8.bytes", "an update of 10 MB as int8, of its bytes as float32", ratio, "x", most=0.25 * 1.02)
    yield Row("uploads.top-k.bytes", "the same as the 5 % that moved furthest", _bytes(plan, "top-k") / exact, "x")
    scheme = Scheme(plan, travelling(named("fedavg"), broadcast="bf16"))
    half = (len(header_bytes(scheme.broadcast)) + scheme.broadcast.size) / exact
    yield Row("uploads.bf16.bytes", "a model of 10 MB as bf16 on its way down, of float32", half, "x", most=0.5 * 1.02)
    plain = _demo("--upload=exact")
    for name, most in (("int8", 0.5), ("top-k", None)):
        lost = 100 * (plain["federated"] - _demo(f"--upload={name}")["federated"])
        what = f"accuracy that the demo loses with {name}, of 100 points"
        yield Row(f"uploads.{name}.accuracy", what, lost, "", most=most)
    lost = 100 * (plain["federated"] - _demo("--broadcast=bf16")["federated"])
    yield Row("uploads.bf16.accuracy", "the same with models that go down as bf16", lost, "", most=0.5)


def _bytes(plan: Plan, upload: str) -> int:
    """Bytes of an update before it is sealed: header and data."""
    layout = Scheme(plan, travelling(named("fedavg"), upload)).update
    return len(header_bytes(layout)) + layout.size


def _demo(how: str) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.html"
        command = [sys.executable, "-m", "grid.cli.node", "demo", "--json", how, f"--report={report}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=110)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures
