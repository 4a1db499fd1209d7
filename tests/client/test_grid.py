"""The scientist's grid: what is found, what is believed, who is invited."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from grid.client.grid import Grid, Remote
from grid.client.settings import quorum_of
from grid.crypto.identity import Identity
from grid.transport.auth import OWNER
from grid.wire.problems import NoParticipants, NotAllowed, NotAuthenticated, RunRefused
from grid.wire.runs import Peer, Quorum
from tests.grid_of_nodes import ANode, Learner, Roll, Scientist, add_dataset, member, plan_of

StartNode = Callable[..., Awaitable[ANode]]

ANN, EVE = Identity.from_seed(b"a" * 32), Identity.from_seed(b"e" * 32)


def a_peer(name: str, key: Identity = ANN) -> Peer:
    return Peer(name, f"http://{name}.example", key.id)


def grid(scientist: Scientist, roll: Roll) -> Grid:
    return Grid(roll, scientist.calls, scientist.identity, now=time.time)


async def test_nodes_are_found_by_their_tags_all_or_any(scientist: Scientist) -> None:
    roll = Roll(
        member(a_peer("ann"), ANN, ("#mri", "#2024")), member(a_peer("bob"), ANN, ("#mri",)), member(a_peer("eve"), EVE)
    )

    found = await grid(scientist, roll).search("#mri", "#2024")
    same = await grid(scientist, roll).search("#mri #2024")
    either = await grid(scientist, roll).search("#mri", "#2024", match="any")

    assert [node.id for node in found] == [node.id for node in same] == ["ann"]
    assert [node.id for node in either] == ["ann", "bob"]
    assert (found[0].verified, found[0].public_key, found[0].tags) == (True, ANN.id, ("#mri", "#2024"))


async def test_what_a_node_signed_counts_and_not_what_the_directory_says(scientist: Scientist) -> None:
    honest = member(a_peer("ann"), ANN, ("#pulse",))
    turned = replace(honest, node_address="http://evil.example", tags=("#pulse", "#more"))

    (found,) = await grid(scientist, Roll(turned)).search("#pulse")

    assert (found.address, found.tags) == ("http://ann.example", ("#pulse",))


async def test_a_record_that_proves_nothing_hides_no_other_node(scientist: Scientist) -> None:
    good, old = member(a_peer("good"), ANN), member(a_peer("old"), ANN, lives=-5.0)
    forged = member(a_peer("forged"), ANN)
    assert forged.record is not None
    forged = replace(forged, record=replace(forged.record, signer=EVE.id))
    others = replace(member(a_peer("good"), EVE), node_id="borrowed")
    unsigned, left = member(a_peer("unsigned")), member(a_peer("left"), ANN, state="expired")

    found = await grid(scientist, Roll(forged, old, others, unsigned, left, good)).search("#pulse")

    assert {node.id: node.verified for node in found} == {
        "forged": False,
        "old": False,
        "borrowed": False,
        "unsigned": False,
        "good": True,
    }
    assert {node.public_key for node in found if not node.verified} == {None}


async def test_datasets_are_described_and_a_silent_node_is_left_out(
    scientist: Scientist, start_node: StartNode
) -> None:
    ann = await start_node("ann")
    await add_dataset(ann.open, 20, "sleep", ("#sleep", "#pulse"))
    await add_dataset(ann.open, 20, "other", ("#other",))
    silent = Peer("silent", "http://127.0.0.1:9", EVE.id)
    liar = Peer("liar", ann.address, EVE.id)  # the address is another node's: it cannot prove the key
    roll = Roll(member(ann.peer, ann.identity), member(silent, EVE), member(liar, EVE))

    found = await grid(scientist, roll).datasets("#pulse")

    assert {node: [info.name for info in infos] for node, infos in found.items()} == {"ann": ["pulse", "sleep"]}


async def test_a_run_is_trained_on_all_verified_nodes_and_the_others_are_named(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann, bob = await start_node("ann", Learner(goal=1.0)), await start_node("bob", Learner(goal=1.0))
    rfc = Peer("rfc", "http://rfc.example", EVE.id)
    roll = Roll(member(ann.peer, ann.identity), member(bob.peer, bob.identity), member(rfc))

    run = await grid(scientist, roll).train(plan_of(), "#pulse", rounds=2, coordinator=coordinator.address)
    result = await run.result()

    assert [line.accepted for line in result.history] == [2, 2]
    assert result.skipped == run.skipped == ("rfc",)
    assert (run.task.quorum.minimum, run.task.rounds, run.task.tags) == (1, 2, ("#pulse",))


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, Quorum(2)),
        ({"quorum": "all"}, Quorum(3)),
        ({"quorum": "all", "drawn": 2}, Quorum(2, 0, 2)),
        ({"quorum": "all", "drawn": 3, "target": 2}, Quorum(2, 2, 3)),
        ({"drawn": 2}, Quorum(1, 0, 2)),
        ({"drawn": 9}, Quorum(2, 0, 9)),
        ({"quorum": 1, "target": 2, "drawn": 3}, Quorum(1, 2, 3)),
        ({"target": 1}, Quorum(1, 1)),
        ({"least": 3}, Quorum(3)),
    ],
)
def test_a_quorum_is_a_number_or_all_that_a_round_waits_for_and_half_by_itself(
    asked: dict[str, Any], wanted: Quorum
) -> None:
    usual: dict[str, Any] = {"quorum": None, "peers": 3, "target": 0, "drawn": 0, "least": 1}

    assert quorum_of(**(usual | asked)) == wanted


async def test_a_run_of_all_nodes_with_a_draw_and_a_pace_is_what_its_task_says(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    g = scientist.grid(*[await start_node(name) for name in ("ann", "bob", "dan")])

    run = await g.train(plan_of(), "#pulse", coordinator=coordinator.address, quorum="all", drawn=2, rounds=3, pace=4.0)

    assert [line.accepted for line in (await run.result()).history] == [2, 2, 2]
    assert (run.task.quorum, run.task.pace) == (Quorum(2, 0, 2), 4.0)


async def test_data_that_nobody_has_is_said_before_anything_starts(scientist: Scientist) -> None:
    with pytest.raises(NoParticipants, match="#unicorns #wild"):
        await grid(scientist, Roll(member(a_peer("ann"), ANN))).train(plan_of(), ["#unicorns", "#wild"])


async def test_without_a_coordinator_the_caller_hears_what_to_do(scientist: Scientist) -> None:
    with pytest.raises(NoParticipants, match="name a coordinator"):
        await grid(scientist, Roll(member(a_peer("ann"), ANN))).train(plan_of(), "#pulse")


async def test_a_coordinator_may_be_embedded(scientist: Scientist, coordinator: ANode, start_node: StartNode) -> None:
    ann = await start_node("ann")

    async def embed() -> Remote:
        return Remote(coordinator.address, coordinator.identity.id)

    roll = Roll(member(ann.peer, ann.identity))
    g = Grid(roll, scientist.calls, scientist.identity, embed=embed, now=time.time)

    assert len((await (await g.train(plan_of(), "#pulse")).result()).history) == 1


async def test_what_the_coordinator_and_the_nodes_refuse_reaches_the_scientist(
    scientist: Scientist, start_node: StartNode
) -> None:
    strict = await start_node("strict", trust=())
    lax = await start_node("lax", data=False)
    g = scientist.grid(strict)

    with pytest.raises(NotAllowed, match="peer trust"):
        await g.train(plan_of(), "#pulse", coordinator=strict.address)
    run = await g.train(plan_of(), "#pulse", coordinator=lax.address)
    with pytest.raises(RunRefused, match="strict: this node's owner has not trusted"):
        await run.result()
    with pytest.raises(RunRefused, match="quorum of 9"):
        await g.train(plan_of(), "#pulse", coordinator=lax.address, quorum=9)


async def test_after_a_login_the_key_on_this_machine_stands_for_the_account(
    scientist: Scientist, start_node: StartNode
) -> None:
    ann = await start_node("ann")
    people = ann.open.means.house.people
    await people.create(OWNER, "olga")
    await people.create(OWNER, "sue", "correct horse battery", role="User")
    here = grid(scientist, Roll())

    with pytest.raises(NotAuthenticated):
        await here.login(ann.address, "sue", "a guess at it")
    me = await here.login(ann.address, "sue", "correct horse battery")

    assert (me.name, me.role, me.keys) == ("sue", "User", (scientist.identity.id,))
    assert ann.open.means.house.book.name_of(scientist.identity.id) == "sue"
