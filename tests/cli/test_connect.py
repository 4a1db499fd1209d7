"""From the address of a gateway to a grid."""

from __future__ import annotations

import asyncio
import stat
import time
from pathlib import Path

import pytest

import grid
from grid.cli.connect import aconnect, home, my_identity
from grid.crypto.identity import Identity
from grid.wire.problems import NoParticipants, Unreachable
from tests.gateway.conftest import gateway_at


def test_a_scientists_key_is_made_once_and_is_nobody_elses(tmp_path: Path) -> None:
    first, second = my_identity(tmp_path / "me"), my_identity(tmp_path / "me")

    assert first.id == second.id
    assert stat.S_IMODE((tmp_path / "me" / "identity.key").stat().st_mode) == 0o600


def test_the_key_lies_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRID_HOME", str(tmp_path / "elsewhere"))

    assert home() == tmp_path / "elsewhere"
    with grid.connect("http://127.0.0.1:9") as g:
        assert g.public_key == Identity.load(tmp_path / "elsewhere" / "identity.key").id


async def test_a_grid_lasts_as_long_as_its_block(tmp_path: Path) -> None:
    async with gateway_at(tmp_path, clock=time.time) as address:  # type: ignore[arg-type]
        async with aconnect(address, identity=Identity.generate()) as g:
            assert await g.search("#pulse") == []
            with pytest.raises(NoParticipants):
                await g.train(grid.Plan.linear(3, 1), "#pulse")
        with pytest.raises(RuntimeError, match="closed"):
            await g.search("#pulse")


async def test_a_gateway_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    async with aconnect("http://127.0.0.1:9", identity=Identity.generate()) as g:
        with pytest.raises(Unreachable):
            await g.search("#pulse")


async def test_two_runs_at_the_same_moment_share_one_coordinator(tmp_path: Path) -> None:
    async with aconnect("http://127.0.0.1:9", identity=Identity.generate()) as g:
        embed = g._embed
        assert embed is not None

        first, second = await asyncio.gather(embed(), embed())

        assert first.address == second.address
