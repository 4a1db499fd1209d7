"""What `import grid` gives, and what it does not load."""

from __future__ import annotations

import subprocess
import sys

import pytest

import grid


def test_the_package_gives_what_its_page_promises() -> None:
    assert grid.Plan.linear(3, 1).parameters == 4
    assert issubclass(grid.GridError, Exception)
    assert callable(grid.connect)
    assert callable(grid.aio.connect)
    assert grid.Identity.generate().id
    questions = {"CoxRegression", "Histogram", "KaplanMeier", "LinearRegression", "LogisticRegression", "Moments"}
    assert set(grid.__all__) == {"GridError", "Identity", "Plan", "Privacy", "aio", "connect"} | questions
    with pytest.raises(AttributeError, match="no attribute 'unicorn'"):
        _ = grid.unicorn  # type: ignore[attr-defined]


def loaded_by(program: str) -> set[str]:
    """The top-level modules that a program loads."""
    code = f"{program}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_the_package_loads_nothing_for_those_who_need_little() -> None:
    assert not loaded_by("import grid") & {"aiohttp", "msgspec", "numpy", "torch"}


def test_neither_a_client_nor_a_coordinator_loads_numpy_or_torch_into_its_process() -> None:
    assert not loaded_by("import grid; grid.connect; grid.aio; grid.Plan.mlp([4, 2])") & {"numpy", "torch"}
