"""Staying listed in directories that fail, forget and lie. The clock jumps, nobody waits."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from grid.crypto.identity import Identity
from grid.node.catalogue import Catalogue
from grid.node.keys import Prekeys
from grid.node.presence import PAUSES, RECORD_LIFE, SHORTEST, Presence
from grid.protocol.documents import read_document
from grid.store.blobs import Blobs
from grid.store.database import Database
from grid.wire.directory import (
    NODE_RECORD,
    Found,
    Join,
    Joined,
    Leave,
    Member,
    NodeRecord,
    Renew,
    Renewed,
    Search,
)
from grid.wire.problems import Full, GridError, NodeIdTaken, NotAMember, Unreachable
from tests.warp import loop_time, warped

START = 1_800_000_000.0
ME = Identity.from_seed(b"node".ljust(32))


class Desk:
    """A directory that notes what it is told and when, and answers as a test wants; then `enough` is set."""

    def __init__(self, *answers: GridError | float, until: int = 3) -> None:
        self.answers, self.until = list(answers), until
        self.heard: list[tuple[str, float]] = []
        self.records: list[NodeRecord] = []
        self.busy: list[bool] = []
        self.left: list[Leave] = []
        self.enough = asyncio.Event()

    def _answer(self, what: str) -> float:
        self.heard.append((what, round(loop_time() - self.began, 1)))
        if len(self.heard) >= self.until:
            self.enough.set()
        answer = self.answers.pop(0) if self.answers else 90.0
        if isinstance(answer, GridError):
            raise answer
        return answer

    async def join(self, join: Join) -> Joined:
        assert join.record is not None
        self.records.append(read_document(join.record, NodeRecord, NODE_RECORD, signer=ME.id))
        return Joined("welcome", "online", self._answer("join"), True)

    async def renew(self, renew: Renew) -> Renewed:
        self.busy.append(renew.busy)
        return Renewed("online", self._answer("renew"))

    async def leave(self, leave: Leave) -> None:
        self.left.append(leave)
        self._answer("leave")

    async def search(self, search: Search) -> Found:
        raise NotImplementedError

    async def resolve(self, node_id: str) -> Member:
        raise NotImplementedError

    began = 0.0


@pytest.fixture
def told(tmp_path: Path) -> Callable[..., Presence]:
    """What puts a presence before desks. Its clock is the loop's."""

    def make(*desks: Desk, busy: Callable[[], bool] = lambda: False) -> Presence:
        began = loop_time()
        for desk in desks:
            desk.began = began
        database = Database(tmp_path / "node.db", "node")

        def now() -> float:
            return START + loop_time() - began

        catalogue = Catalogue(database, Blobs(tmp_path / "blobs"), now)
        prekeys = Prekeys(database, ME, now)
        return Presence(ME, "ann", lambda: "http://ann.example", desks, catalogue, prekeys, now=now, busy=busy)

    return make


Told = Callable[..., Presence]


def play(story: Coroutine[Any, Any, None]) -> None:
    """A story on a loop whose clock jumps."""
    warped(story)


async def until_enough(presence: Presence, *desks: Desk) -> None:
    """Keep present until all desks have heard enough."""
    keeping = asyncio.create_task(presence.keep())
    await asyncio.gather(*(desk.enough.wait() for desk in desks))
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


def test_a_node_joins_once_and_renews_when_a_third_of_its_lease_is_over(told: Told) -> None:
    async def story() -> None:
        desk = Desk(until=4)

        await until_enough(told(desk, busy=lambda: len(desk.heard) > 2), desk)

        assert desk.heard == [("join", 0.0), ("renew", 30.0), ("renew", 60.0), ("renew", 90.0)]
        assert desk.busy == [False, False, True]
        (record,) = desk.records
        assert (record.node_id, record.node_address, record.expires) == (
            "ann",
            "http://ann.example",
            START + RECORD_LIFE,
        )

    play(story())


def test_a_node_that_was_forgotten_joins_again_at_once(told: Told) -> None:
    async def story() -> None:
        desk = Desk(90.0, NotAMember(), until=4)

        await until_enough(told(desk), desk)

        assert desk.heard == [("join", 0.0), ("renew", 30.0), ("join", 30.0), ("renew", 60.0)]
        assert desk.records[0].version < desk.records[1].version

    play(story())


def test_a_directory_that_does_not_answer_is_asked_less_and_less_often(told: Told) -> None:
    async def story() -> None:
        desk = Desk(*[Unreachable()] * 7, until=8)

        await until_enough(told(desk), desk)

        asked = [at for _, at in desk.heard]
        assert [later - at for at, later in itertools.pairwise(asked)] == [*PAUSES, PAUSES[-1], PAUSES[-1]]

    play(story())


def test_success_makes_patience_new(told: Told) -> None:
    async def story() -> None:
        desk = Desk(Unreachable(), Unreachable(), 30.0, Unreachable(), 30.0, until=6)

        await until_enough(told(desk), desk)

        assert desk.heard == [("join", 0), ("join", 1), ("join", 3), ("renew", 13), ("renew", 14), ("renew", 24)]

    play(story())


def test_a_directory_may_ask_for_more_patience(told: Told) -> None:
    async def story() -> None:
        desk = Desk(Full(retry_after=120.0), until=2)

        await until_enough(told(desk), desk)

        assert desk.heard == [("join", 0.0), ("join", 120.0)]

    play(story())


def test_a_directory_cannot_make_a_node_spin(told: Told) -> None:
    async def story() -> None:
        desk = Desk(0.0, 0.0, NotAMember(), 0.0, until=5)

        await until_enough(told(desk), desk)

        assert desk.heard[-1][1] >= 2 * SHORTEST

    play(story())


def test_new_tags_are_told_everywhere_at_once(told: Told) -> None:
    async def story() -> None:
        one, two = Desk(until=2), Desk(until=2)
        presence = told(one, two)
        asyncio.get_running_loop().call_later(5, presence.advertise)

        await until_enough(presence, one, two)

        assert one.heard == two.heard == [("join", 0.0), ("join", 5.0)]

    play(story())


def test_tags_that_change_while_a_join_is_under_way_are_not_missed(told: Told) -> None:
    async def story() -> None:
        desk = Desk(until=2)
        presence = told(desk)
        join = desk.join

        async def slow(message: Join) -> Joined:
            if not desk.heard:
                presence.advertise()
            return await join(message)

        desk.join = slow  # type: ignore[method-assign]
        await until_enough(presence, desk)

        assert desk.heard == [("join", 0.0), ("join", 0.0)]
        assert desk.records[0].version < desk.records[1].version

    play(story())


def test_one_directory_does_not_wait_for_another(told: Told) -> None:
    async def story() -> None:
        broken, taken, good = Desk(*[Unreachable()] * 9), Desk(*[NodeIdTaken()] * 9), Desk(until=3)

        await until_enough(told(broken, taken, good), good)

        assert good.heard == [("join", 0.0), ("renew", 30.0), ("renew", 60.0)]

    play(story())


def test_a_record_is_signed_anew_before_it_expires(told: Told) -> None:
    async def story() -> None:
        desk = Desk(*[7200.0] * 60, until=50)

        await until_enough(told(desk), desk)

        joins = [at for what, at in desk.heard if what == "join"]
        assert len(joins) > 1
        assert all(later - at < RECORD_LIFE * 0.6 for at, later in itertools.pairwise(joins))

    play(story())


def test_a_node_that_leaves_says_so_to_whoever_hears_it(told: Told) -> None:
    async def story() -> None:
        deaf, good = Desk(Unreachable()), Desk()

        await told(deaf, good).leave()

        assert good.left == deaf.left == [Leave("ann", "http://ann.example")]

    play(story())
