"""A node's pins: whom it has met, what its owner does with them, and a run whose peers are not who they were."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import ClientSession
from click.testing import CliRunner

from grid.cli.grid import main as scientist_command
from grid.cli.node import main as node_command
from grid.client.calls import Calls
from grid.client.pins import FilePins
from grid.crypto.identity import Identity, fingerprint
from grid.node.peers import Peers
from grid.protocol.documents import sign_document
from grid.protocol.transparency import Followed
from grid.store.database import Database
from grid.wire.log import REVOCATION, Revocation, Revoke
from grid.wire.node import DATASETS, FORGET_PEER, NODE_EVENTS, PEERS, PIN_PEER, REVOKE_HERE, ForgetPeer, PinPeer
from grid.wire.problems import BadSignature, KeyChanged, KeyRevoked, NotAllowed, NotFound
from grid.wire.runs import After
from tests.gateway.fakes import Clock
from tests.grid_of_nodes import SCIENTIST, ANode, Learner, Scientist, plan_of

StartNode = Callable[..., Awaitable[ANode]]
ANN, EVE = Identity.from_seed(b"a" * 32), Identity.from_seed(b"e" * 32)


async def test_peers_are_pinned_all_or_none_and_across_restarts(tmp_path: Path) -> None:
    async with Database(tmp_path / "node.db", "node") as database:
        await Peers(database, Clock()).meet([("ann", ANN.id)])
    async with Database(tmp_path / "node.db", "node") as database:
        peers = Peers(database, Clock())

        with pytest.raises(KeyChanged, match="ann"):
            await peers.meet([("new", EVE.id), ("ann", EVE.id)])

        assert [peer.name for peer in await peers.known()] == ["ann"]
        await peers.pin("ann", EVE.id)
        await peers.meet([("ann", EVE.id)])
        assert [peer.how for peer in await peers.known()] == ["by hand"]


async def test_a_run_in_which_a_known_name_has_another_key_is_refused_by_the_coordinator(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann = await start_node("ann")
    run = await scientist.grid(ann).train(plan_of(), "#pulse", coordinator=coordinator.address)
    await run.result()
    known = await coordinator.open.means.peers.known()
    await coordinator.open.means.peers.pin("ann", EVE.id)

    with pytest.raises(KeyChanged, match="ann") as refused:
        await scientist.grid(ann).train(plan_of(), "#pulse", coordinator=coordinator.address)

    assert [(peer.name, peer.public_key, peer.how) for peer in known] == [("ann", ann.identity.id, "first use")]
    assert fingerprint(ann.identity.public) in refused.value.detail


async def test_only_the_owner_sees_and_changes_whom_a_node_knows(scientist: Scientist, coordinator: ANode) -> None:
    address, stranger = coordinator.address, scientist.calls
    for call in (
        stranger.call(address, PEERS, sign=True),
        stranger.call(address, PIN_PEER, PinPeer("ann", EVE.id), sign=True),
        stranger.call(address, FORGET_PEER, ForgetPeer("ann"), sign=True),
    ):
        with pytest.raises(NotAllowed):
            await call

    with pytest.raises(NotFound, match="ann"):
        await coordinator.open.means.peers.forget("ann")


def test_the_owner_lists_shows_pins_and_forgets_at_the_command_line(tmp_path: Path) -> None:
    def said(*words: str, fails: bool = False) -> str:
        result = CliRunner().invoke(node_command, ["peer", *words, "--data", str(tmp_path)])
        assert bool(result.exit_code) == fails, result.output
        return result.output

    said("pin", "ann", ANN.id)

    assert fingerprint(ANN.public) in said("known")
    assert "by hand" in said("show", "ann")
    assert ANN.id in said("show", "ann")
    said("forget", "ann")
    assert "not met" in said("show", "ann", fails=True)
    assert said("known") == ""


def test_a_scientist_does_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRID_HOME", str(tmp_path))
    FilePins(tmp_path / "peers.json", Clock()).meet("ann@http://gateway", ANN.id)
    run = CliRunner().invoke

    assert fingerprint(ANN.public) in run(scientist_command, ["peer", "list"]).output
    assert run(scientist_command, ["peer", "pin", "ann@http://gateway", EVE.id]).exit_code == 0
    assert "by hand" in run(scientist_command, ["peer", "show", "ann@http://gateway"]).output
    assert run(scientist_command, ["peer", "forget", "ann@http://gateway"]).exit_code == 0
    assert run(scientist_command, ["peer", "show", "ann@http://gateway"]).exit_code != 0


# --- keys of scientists ----------------------------------------------------------------------------


def revocation(key: Identity, signer: Identity | None = None) -> Revoke:
    said = Revocation(key.id, time.time(), "the laptop was stolen")
    return Revoke(sign_document(signer or key, REVOCATION, said))


async def test_a_scientist_who_lost_a_key_has_no_node_train_for_it_any_more(
    scientist: Scientist, coordinator: ANode, start_node: StartNode, connections: ClientSession
) -> None:
    ann, bob, anybody = await start_node("ann"), await start_node("bob"), Calls(connections)
    await anybody.call(ann.address, REVOKE_HERE, revocation(SCIENTIST))

    run = await scientist.start(coordinator, [ann, bob], plan_of())
    told = [event.data async for event in run.watch() if event.kind == "participant" and event.data["reason"]]
    assert [(each["node"], "the laptop was stolen" in each["reason"]) for each in told] == [("ann", True)]

    with pytest.raises(NotFound, match="not known here"):
        await anybody.call(ann.address, REVOKE_HERE, revocation(EVE))
    with pytest.raises(BadSignature):
        await anybody.call(bob.address, REVOKE_HERE, revocation(SCIENTIST, EVE))
    bob.open.means.peers.refuse_revoked(SCIENTIST.id)


async def test_a_revoked_key_is_refused_in_the_session_that_it_has_in_a_new_one_and_in_signed_requests(
    scientist: Scientist, start_node: StartNode, connections: ClientSession
) -> None:
    ann = await start_node("ann")
    at, peer = ann.address, ann.identity.public
    await scientist.calls.call(at, DATASETS, peer=peer)
    await Calls(connections).call(at, REVOKE_HERE, revocation(SCIENTIST))

    for calls in (scientist.calls, Calls(connections, identity=SCIENTIST)):
        with pytest.raises(KeyRevoked, match="the laptop was stolen"):
            await calls.call(at, DATASETS, peer=peer)
        with pytest.raises(KeyRevoked, match="the laptop was stolen"):
            await calls.call(at, DATASETS, sign=True)
    assert await Scientist(connections, EVE).calls.call(at, DATASETS, peer=peer)


async def test_a_part_in_a_run_of_a_scientist_whose_key_was_revoked_is_not_taken_up_again(
    scientist: Scientist, coordinator: ANode, start_node: StartNode, connections: ClientSession
) -> None:
    held = Learner()
    held.may_go_on.clear()
    ann = await start_node("ann", held)
    await scientist.start(coordinator, [ann], plan_of())
    await held.began.wait()
    await Calls(connections).call(ann.address, REVOKE_HERE, revocation(SCIENTIST))
    await ann.stop()

    again = await start_node("ann")

    assert again.open.parts.participant.running() == {}


async def test_a_node_does_no_further_round_for_a_key_that_was_revoked_meanwhile(
    scientist: Scientist, coordinator: ANode, start_node: StartNode, connections: ClientSession
) -> None:
    held = Learner()
    held.may_go_on.clear()
    ann = await start_node("ann", held)
    run = await scientist.start(coordinator, [ann], plan_of(), rounds=2)
    await held.began.wait()
    held.began.clear()
    await Calls(connections).call(ann.address, REVOKE_HERE, revocation(SCIENTIST))
    held.may_go_on.set()

    reasons = [event.data.get("reason", "") async for event in run.watch()]

    assert any("the laptop was stolen" in reason for reason in reasons if reason)
    assert not held.began.is_set()


async def test_what_was_revoked_stays_so_after_a_restart(tmp_path: Path) -> None:
    async with Database(tmp_path / "node.db", "node") as database:
        peers = Peers(database, Clock())
        await peers.meet([("ann", ANN.id)])
        await peers.revoke(revocation(ANN).revocation)
    async with Database(tmp_path / "node.db", "node") as database:
        with pytest.raises(KeyRevoked, match="the laptop was stolen"):
            Peers(database, Clock()).refuse_revoked(ANN.id)


async def test_the_owner_hears_of_a_gateway_that_lied(
    scientist: Scientist, start_node: StartNode, connections: ClientSession
) -> None:
    node = await start_node("ann", owners=(EVE.id,))
    peers = node.open.means.peers
    await peers.alarm("http://gateway.example", Followed(EVE.id), "its log was rewritten")
    owner = Scientist(connections, EVE)

    told = await owner.calls.call(node.address, NODE_EVENTS, query=After(), sign=True)
    with pytest.raises(NotAllowed):
        await scientist.calls.call(node.address, NODE_EVENTS, query=After(), sign=True)

    assert [(event.kind, event.data["why"]) for event in told.events] == [("gateway-alarm", "its log was rewritten")]


async def test_the_owner_hears_once_of_each_key_that_was_revoked_wherever_it_was_told(
    start_node: StartNode, connections: ClientSession
) -> None:
    node = await start_node("ann", owners=(EVE.id,))
    peers = node.open.means.peers
    for _ in range(2):
        await Calls(connections).call(node.address, REVOKE_HERE, revocation(SCIENTIST))
        await peers.follow("http://gateway.example", Followed(EVE.id), {SCIENTIST.id: "in its log", ANN.id: "lost"})

    told = await Scientist(connections, EVE).calls.call(node.address, NODE_EVENTS, query=After(), sign=True)

    assert [(event.kind, event.data["public-key"], event.data["why"]) for event in told.events] == [
        ("key-revoked", SCIENTIST.id, "the laptop was stolen"),
        ("key-revoked", ANN.id, "lost"),
    ]
