from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from grid.cli.processes import DaemonFailed, Daemons


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a module put is one that `python -m` finds; and the folder of logs."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


READY = "import signal\nprint('listening on http://127.0.0.1:1', flush=True)\nsignal.pause()\n"
DEAF = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + READY


async def test_a_daemon_is_ready_when_it_says_so_and_gone_when_the_block_ends(modules: Path) -> None:
    (modules / "kind.py").write_text(READY)

    async with Daemons(modules) as daemons:
        daemon = await daemons.start("alice", "kind")
        daemons.check()
        assert daemon.address == "http://127.0.0.1:1"

    with pytest.raises(DaemonFailed, match="alice ended with status -15"):
        daemons.check()


async def test_one_that_ends_before_it_is_ready_is_shown_with_its_last_words(modules: Path) -> None:
    (modules / "sad.py").write_text("import sys\nprint('a word')\nsys.exit('\\n'.join(map(str, range(100))))\n")

    async with Daemons(modules) as daemons:
        with pytest.raises(DaemonFailed) as failure:
            await daemons.start("bob", "sad")

    assert str(failure.value).startswith("bob ended with status 1; the end of its log:\n  85\n")
    assert str(failure.value).endswith("\n  99")


async def test_whoever_will_not_go_is_killed_when_we_are_hurried(modules: Path) -> None:
    (modules / "deaf.py").write_text(DEAF)
    daemons = Daemons(modules)
    daemon = await daemons.start("carol", "deaf")

    stopping = asyncio.create_task(daemons.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.wait({stopping})

    await daemon.ended()
    with pytest.raises(DaemonFailed, match="status -9"):
        daemon.check()


async def test_what_is_left_runs_on(modules: Path) -> None:
    (modules / "kind.py").write_text(READY)

    async with Daemons(modules) as daemons:
        daemon = await daemons.start("alice", "kind")
        assert daemons.leave() == [daemon.pid]

    daemon.check()
    await daemons.stop()


async def test_settings_for_another_daemon_are_not_passed_on(modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PORT", "GRID_PORT", "GRID_DATA"):
        monkeypatch.setenv(name, "1")
    (modules / "bare.py").write_text(
        f"import os\nassert not [n for n in os.environ if 'GRID' in n or n == 'PORT']\n{READY}"
    )

    async with Daemons(modules) as daemons:
        await daemons.start("alice", "bare")
