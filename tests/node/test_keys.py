from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from grid.crypto.errors import Replayed
from grid.crypto.identity import Identity
from grid.crypto.prekeys import PrekeyPublic, read_published
from grid.node.keys import DAY, KEPT, LOOK, Prekeys
from grid.store.database import Database

NODE = Identity.from_seed(b"n" * 32)
START = 1_700_000_000.0


class Clock:
    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> float:
        return self.time


class Ring:
    """A node's prekeys on a directory, with a clock moved by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, Clock()
        self.database = Database(folder / "node.db", "node")
        self.prekeys = self.again()

    def again(self) -> Prekeys:
        return Prekeys(self.database, NODE, self.clock)

    def present(self) -> PrekeyPublic:
        return read_published(self.prekeys.published(), NODE.public, self.clock())

    def opens(self, public: PrekeyPublic, prekeys: Prekeys | None = None) -> bool:
        secret = (prekeys or self.prekeys).find(public.id)
        return secret is not None and secret.unwrap(public.wrap(b"k" * 32, b"info"), b"info") == b"k" * 32


@pytest.fixture
async def ring(tmp_path: Path) -> AsyncIterator[Ring]:
    ring = Ring(tmp_path)
    yield ring
    await ring.database.close()


def test_what_is_sealed_to_the_published_key_opens_here(ring: Ring) -> None:
    public = ring.present()

    assert public.owner == NODE.public
    assert ring.opens(public)
    assert ring.prekeys.find(b"12345678") is None


def test_a_prekey_is_on_disk_before_it_is_published(ring: Ring) -> None:
    public = ring.present()

    assert ring.again().published() == ring.prekeys.published()
    assert ring.opens(public, ring.again())


def test_a_new_prekey_each_day_and_the_old_one_still_opens(ring: Ring) -> None:
    first = ring.present()
    ring.clock.time += DAY - 1
    assert ring.present().id == first.id

    ring.clock.time += 1
    second = ring.present()
    assert second.id != first.id
    assert ring.opens(first)
    assert ring.opens(second)


async def test_an_old_secret_is_erased(ring: Ring, tmp_path: Path) -> None:
    first = ring.present()
    kept = ring.prekeys.find(first.id)
    assert kept is not None
    secret = kept.private_bytes()
    assert any(secret in path.read_bytes() for path in tmp_path.iterdir())

    ring.clock.time += KEPT + 1
    await ring.prekeys.refresh()
    assert ring.prekeys.find(first.id) is None
    assert not any(secret in path.read_bytes() for path in tmp_path.iterdir())


def test_a_prekey_whose_time_is_over_opens_nothing_even_before_it_is_erased(ring: Ring) -> None:
    first = ring.present()
    ring.clock.time += KEPT

    assert ring.prekeys.find(first.id) is None


def test_others_stop_sealing_to_a_prekey_a_day_before_it_is_erased(ring: Ring) -> None:
    published = ring.prekeys.published()

    with pytest.raises(Replayed):
        read_published(published, NODE.public, START + KEPT - DAY)


def test_a_clock_that_was_set_back_does_not_leave_a_key_of_tomorrow(ring: Ring) -> None:
    tomorrow = ring.present()
    ring.clock.time -= DAY

    assert ring.present().id != tomorrow.id
    assert ring.again().published() == ring.prekeys.published()


async def test_old_secrets_go_even_if_nobody_asks_for_new_ones(ring: Ring) -> None:
    first = ring.present()
    waits: list[float] = []

    async def pause(seconds: float) -> None:
        waits.append(seconds)
        ring.clock.time += KEPT + 1
        if len(waits) == 2:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await ring.prekeys.keep(pause)
    assert waits == [LOOK, LOOK]
    assert ring.prekeys.find(first.id) is None
