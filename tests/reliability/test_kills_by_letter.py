"""Nodes without ports, of which one is killed, or the gateway between them: the run ends as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.killing import outcome
from tests.reliability.test_kills import sound

KILLS = [
    ("ann", "after-fit:2"),
    ("ann", "after-upload:1"),
    ("carol", "after-update-row:5"),
    ("gateway", "after-join-row:1"),
]


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("who", "fault"), KILLS)
async def test_a_kill_changes_nothing_of_a_run_in_letters(tmp_path: Path, who: str, fault: str) -> None:
    result = await outcome(tmp_path, who, fault, hidden=True)

    sound(result)
    assert result.deaths == 1
