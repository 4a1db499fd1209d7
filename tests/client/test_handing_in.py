"""Uploads over a line that breaks."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path

import pytest
from msgspec.structs import replace

from grid.client import handing_in
from grid.client.handing_in import hand_in, spooled
from grid.client.payload import read_prekey
from grid.crypto.envelope import Header
from grid.crypto.identity import Identity
from grid.crypto.sealing import seal_bytes
from grid.wire.node import PREKEY
from grid.wire.problems import BadRequest, NotAllowed, Unreachable
from grid.wire.ranges import Piece
from grid.wire.runs import BUNDLE_HELD, PUT_BUNDLE, UPDATE, UPDATE_HELD
from tests.cutting import a_line
from tests.grid_of_nodes import ANode, Puppet, Scientist, Story, coordinator_of, plan_of

StartPuppet = Callable[..., Awaitable[Puppet]]
WIDE = plan_of(1_000_000)
SIZE = 4_000_000


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing_in, "PAUSES", (0.05, 0.1, 0.1, 0.1))


async def test_of_a_bundle_only_the_rest_travels_again(scientist: Scientist, coordinator: ANode) -> None:
    async with a_line(coordinator.address) as line:
        line.cut("up", 1_500_000, 1_000_000)
        await scientist.grid()._hand_in(WIDE, replace(coordinator_of(coordinator), address=line.address))

    assert coordinator.files() == [f"bundle-{WIDE.digest}"]
    assert SIZE < line.moved["up"] < 1.3 * SIZE  # from the start each time, it would be 6.5 million


async def test_a_line_that_brings_nothing_is_given_up(scientist: Scientist, coordinator: ANode) -> None:
    async with a_line(coordinator.address) as line:
        line.cut("up", 1_500_000, *[3000] * 20)
        with pytest.raises(Unreachable):
            await scientist.grid()._hand_in(WIDE, replace(coordinator_of(coordinator), address=line.address))

    assert not any(name.startswith("bundle-") for name in coordinator.files())
    assert line.connections < 12


async def test_of_an_update_only_the_rest_travels_again(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet, tmp_path: Path
) -> None:
    ann = await start_puppet("ann")
    run = await scientist.start(coordinator, [ann], WIDE)
    await ann.takes_part(run)
    story = Story(run)
    await story.until("round-opened", round=1)
    file = tmp_path / "update"
    file.write_bytes(await ann.update(1, [1.0] * 1_000_001, layout=WIDE.layout))
    async with a_line(coordinator.address) as line:
        line.cut("up", 1_500_000, 1_000_000)
        where = {"peer": coordinator.identity.public, "run": run.id, "round": 1}
        counted = await hand_in(ann.calls, line.address, UPDATE, UPDATE_HELD, file, **where)  # type: ignore[arg-type]

    assert counted.round == 1
    assert (await story.until("round-closed", round=1))["accepted"] == 1
    assert SIZE < line.moved["up"] < 1.3 * SIZE


async def test_what_is_not_what_its_digest_says_is_refused(
    scientist: Scientist, coordinator: ANode, tmp_path: Path
) -> None:
    file, another = tmp_path / "file", sha256(b"another").hexdigest()
    now, me, you = time.time(), scientist.identity, coordinator.identity.public
    header = Header(sender=me.public, audience=you, kind="bundle", created=int(now), expires=int(now + 60))
    prekey = read_prekey((await scientist.calls.call(coordinator.address, PREKEY)).prekey, you, now)
    file.write_bytes(seal_bytes(me, header, WIDE.bundle(), [prekey]))
    where = {"peer": coordinator.identity.public, "digest": WIDE.digest}

    with pytest.raises(BadRequest):
        await hand_in(scientist.calls, coordinator.address, PUT_BUNDLE, BUNDLE_HELD, file, content=another, **where)  # type: ignore[arg-type]

    assert coordinator.files() == []


async def test_nobody_hears_of_anothers_beginnings(
    scientist: Scientist, coordinator: ANode, connections: object
) -> None:
    stranger = Scientist(connections, Identity.from_seed(b"stranger".ljust(32)))  # type: ignore[arg-type]

    with pytest.raises(NotAllowed):
        await stranger.calls.call(coordinator.address, BUNDLE_HELD, query=Piece("0" * 64), digest="0" * 64)
    held = await scientist.calls.call(coordinator.address, BUNDLE_HELD, query=Piece("0" * 64), digest="0" * 64)
    assert held.size == 0


async def test_what_is_spooled_is_gone_afterwards() -> None:
    async with spooled([b"a", b"b"]) as file:
        assert file.read_bytes() == b"ab"

    assert not file.exists()
