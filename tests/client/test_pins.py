"""A client's pins: one file, many programs, and a gateway that puts another key in a node's place."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from grid.client.grid import Grid
from grid.client.pins import FRESH, FilePins, MemoryPins
from grid.crypto.identity import Identity, fingerprint
from grid.protocol.pins import Pin
from grid.wire.problems import KeyChanged
from grid.wire.runs import Peer
from tests.gateway.fakes import START, Clock
from tests.grid_of_nodes import Roll, Scientist, member

ANN, EVE = Identity.from_seed(b"a" * 32), Identity.from_seed(b"e" * 32)
GATEWAY = "http://gateway.example"


def test_a_key_is_remembered_by_every_program_that_shares_the_file(tmp_path: Path) -> None:
    clock = Clock()
    FilePins(tmp_path / "home" / "peers.json", clock).meet("ann", ANN.id)

    clock.passes(FRESH + 1)
    others = FilePins(tmp_path / "home" / "peers.json", clock)
    others.meet("ann", ANN.id)
    with pytest.raises(KeyChanged):
        others.meet("ann", EVE.id)

    assert others.all() == {"ann": Pin("ann", ANN.id, START, START + FRESH + 1)}
    assert (tmp_path / "home" / "peers.json").stat().st_mode & 0o077 == 0


def test_a_person_may_pin_and_forget(tmp_path: Path) -> None:
    pins = FilePins(tmp_path / "peers.json", Clock())
    pins.meet("ann", EVE.id)

    pins.pin("ann", ANN.id)
    pins.meet("ann", ANN.id)
    assert pins.all()["ann"].how == "by hand"

    assert pins.forget("ann")
    assert not pins.forget("ann")
    pins.meet("ann", EVE.id)


def test_programs_that_meet_somebody_at_once_lose_nobody(tmp_path: Path) -> None:
    names = [f"node-{number}" for number in range(20)]
    meet = [threading.Thread(target=FilePins(tmp_path / "p.json", Clock()).meet, args=(n, ANN.id)) for n in names]
    for thread in meet:
        thread.start()
    for thread in meet:
        thread.join()

    assert sorted(FilePins(tmp_path / "p.json", Clock()).all()) == sorted(names)


async def test_a_directory_that_gives_a_known_node_another_key_is_refused_and_the_node_named(
    scientist: Scientist, tmp_path: Path
) -> None:
    ann = Peer("ann", "http://ann.example", ANN.id)
    pins = FilePins(tmp_path / "peers.json", time.time)

    def seen_through(*key: Identity) -> Grid:
        roll = Roll(*(member(ann, one) for one in key))
        return Grid(roll, scientist.calls, scientist.identity, now=time.time, pins=pins, gateway=GATEWAY)

    assert [node.public_key for node in await seen_through(ANN).search("#pulse")] == [ANN.id]
    with pytest.raises(KeyChanged, match=f"ann@{GATEWAY}") as refused:  # a new session, weeks later
        await seen_through(EVE).search("#pulse")

    assert fingerprint(ANN.public) in refused.value.detail
    assert fingerprint(EVE.public) in refused.value.detail


async def test_a_coordinator_that_is_named_by_its_address_is_known_by_its_key(
    scientist: Scientist, coordinator: object
) -> None:
    address = coordinator.address  # type: ignore[attr-defined]
    pins = MemoryPins(time.time)
    pins.meet(address, EVE.id)  # somebody else answered there before

    with pytest.raises(KeyChanged, match=address):
        await Grid(Roll(), scientist.calls, scientist.identity, now=time.time, pins=pins).runs(address)
