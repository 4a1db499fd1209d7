from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from grid.cli.train import plan


def test_a_plan_is_made_and_shown_on_a_sheet_with_its_warnings(tmp_path: Path) -> None:
    file = str(tmp_path / "plan.safetensors")
    made = CliRunner().invoke(plan, ["mlp", "8", "4", "2", "--batch", "2", "--out", file])
    shown = CliRunner().invoke(plan, ["show", file, "--examples", "100"])

    assert made.exit_code == shown.exit_code == 0
    assert "linear [4, 8] [4], 36 parameters" in shown.output
    assert "0.5 parameters" in shown.output
    assert "WARNING" in shown.output
