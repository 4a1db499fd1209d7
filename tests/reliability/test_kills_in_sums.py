"""Secure sums in which a node is killed, or their coordinator: one that breaks is begun anew, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from grid.learning.strategy import PRESETS, travelling
from tests.killing import OTHERS, ROUNDS, outcome

MASKED = travelling(PRESETS["fedavg"], upload="masked")
KILLS = [
    ("", ""),
    ("ann", "before-fit:2"),
    ("ann", "after-finished-row:2"),
    ("ann", "after-upload:2"),
    ("carol", "after-update-row:5"),
    ("carol", "before-checkpoint:2"),
]
"""Who is killed where: while keys and shares are told, before and after the vector is handed in, the coordinator
between two vectors, and with the masks lifted and nothing on disk."""


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("who", "fault"), KILLS)
async def test_a_kill_changes_nothing_of_what_sums_come_to(who: str, fault: str, tmp_path: Path) -> None:
    result = await outcome(tmp_path, who, fault, strategy=MASKED)

    assert (result.state, result.reason, result.deaths) == ("success", "", bool(who))
    assert result.accepted == [len(OTHERS)] * ROUNDS
    assert set(result.counted.values()) == {1}
    assert set(result.counted) <= result.acknowledged
    model, wanted = np.frombuffer(result.model, np.float32), np.frombuffer(result.replayed, np.float32)
    np.testing.assert_allclose(model, wanted, atol=3e-5)
