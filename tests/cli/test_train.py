from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from grid.cli.train import plan, quorum_word, train


def test_a_plan_is_made_and_shown_on_a_sheet_with_its_warnings(tmp_path: Path) -> None:
    file = str(tmp_path / "plan.safetensors")
    made = CliRunner().invoke(plan, ["mlp", "8", "4", "2", "--batch", "2", "--out", file])
    shown = CliRunner().invoke(plan, ["show", file, "--examples", "100"])

    assert made.exit_code == shown.exit_code == 0
    assert "linear [4, 8] [4], 36 parameters" in shown.output
    assert "0.5 parameters" in shown.output
    assert "WARNING" in shown.output


@pytest.mark.parametrize("wrong", ["none", "0", "1.5"])
def test_a_quorum_is_a_number_of_nodes_or_all(wrong: str) -> None:
    refused = CliRunner().invoke(train, ["plan.safetensors", "--data", "#x", "--quorum", wrong])

    assert refused.exit_code == 2
    assert wrong in refused.output
    assert [quorum_word(word) for word in ("all", "3")] == ["all", 3]
