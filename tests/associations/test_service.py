"""Associations between real daemons: asked, proved, decided, ended; and what strangers try."""

from __future__ import annotations

import time

import msgspec
import pytest

from grid.associations.service import OPEN, digest_of
from grid.crypto.identity import Identity
from grid.protocol.documents import sign_document
from grid.store.associations import get
from grid.wire import associations as wire
from grid.wire.problems import AssociationRefused, BadSignature, GridError, NotAllowed, NotFound, OutOfTurn, Replayed
from tests.associations.conftest import Daemon, Start

EVE = Identity.from_seed(b"e" * 32)


async def pair(start: Start) -> tuple[Daemon, Daemon]:
    """A node and a network."""
    return await start("node", b"a"), await start("gateway", b"g")


async def states(*daemons: Daemon) -> list[list[str]]:
    return [[a.state for a in await daemon.associations.all()] for daemon in daemons]


async def test_one_asks_the_other_accepts_and_either_ends_it(start: Start) -> None:
    node, network = await pair(start)

    asked = await node.associations.ask(wire.AskFor(network.address, network.identity.id))
    assert await states(node, network) == [["asked"], ["received"]]
    with pytest.raises(OutOfTurn, match="the other side"):
        await node.associations.decide(asked.id, wire.Decision(True))
    assert not network.associations.is_associated(node.identity.id)
    await network.associations.decide(asked.id, wire.Decision(True))
    assert await states(node, network) == [["active"], ["active"]]
    assert network.associations.is_associated(node.identity.id)
    assert node.associations.is_associated(network.identity.id)
    await node.associations.end(asked.id)
    assert await states(node, network) == [["ended"], ["ended"]]
    assert not network.associations.is_associated(node.identity.id)
    with pytest.raises(OutOfTurn):
        await network.associations.decide(asked.id, wire.Decision(True))


async def test_a_network_asks_a_node_alike_and_a_denial_says_why(start: Start) -> None:
    node, network = await pair(start)

    asked = await network.associations.ask(wire.AskFor(node.address))
    await node.associations.decide(asked.id, wire.Decision(False, "not now"))

    (info,) = await network.associations.all()
    assert (info.state, info.why, info.name) == ("denied", "not now", "a")


async def test_what_was_decided_while_one_was_away_is_heard_when_it_asks_after_it(start: Start) -> None:
    node, network = await pair(start)
    asked = await node.associations.ask(wire.AskFor(network.address))
    there, node.address = node.address, "http://127.0.0.1:9"
    network.calls.relay = None
    record = await network.associations._record(asked.id)
    await network.associations._database.write(
        lambda c: c.execute(
            "UPDATE associations SET record = ? WHERE id = ?",
            (msgspec.json.encode(msgspec.structs.replace(record, address=node.address)), asked.id),
        )
    )

    await network.associations.decide(asked.id, wire.Decision(True))
    node.address = there

    assert [a.state for a in await node.associations.all()] in (["asked"], ["active"])
    assert await states(node) == [["active"]]


async def test_what_nobody_decides_on_lapses(start: Start) -> None:
    node, network = await pair(start)
    await node.associations.ask(wire.AskFor(network.address))

    node.clock = network.clock = OPEN + 1

    assert await states(node, network) == [["lapsed"], ["lapsed"]]


async def test_only_a_node_and_a_network_and_only_the_key_that_was_meant(start: Start) -> None:
    node, network = await pair(start)
    other = await start("node", b"b")

    with pytest.raises(AssociationRefused, match="a node is associated with a network"):
        await node.associations.ask(wire.AskFor(other.address))
    with pytest.raises(AssociationRefused, match="another key"):
        await node.associations.ask(wire.AskFor(network.address, EVE.id))


def proposal(asker: Daemon | Identity, asked: Daemon, address: str, **changes: object) -> wire.Proposal:
    """As anybody can write one."""
    key = asker.id if isinstance(asker, Identity) else asker.identity.id
    now = time.time()
    said = wire.Proposal(key, "node", "eve", address, asked.identity.id, "n" * 24, now, now + 3600)
    return msgspec.structs.replace(said, **changes)


async def test_nobody_proposes_in_anothers_name_or_for_anothers_address(start: Start) -> None:
    node, network = await pair(start)

    async def propose(said: wire.Proposal, by: Identity) -> None:
        await network.associations.proposed(wire.Propose(sign_document(by, wire.PROPOSAL, said)))

    for said, by, why in (
        (proposal(node, network, node.address), EVE, BadSignature),  # forged
        (proposal(EVE, network, node.address), EVE, BadSignature),  # another key answers there
        (proposal(node, network, node.address), node.identity, AssociationRefused),  # never asked through it
        (proposal(node, node, node.address), node.identity, AssociationRefused),  # meant for another
        (proposal(node, network, node.address, role="gateway"), node.identity, AssociationRefused),
        (proposal(node, network, node.address, expires=1.0), node.identity, Replayed),
        (proposal(node, network, node.address, expires=9e9), node.identity, AssociationRefused),
        (proposal(EVE, network, "http://169.254.169.254"), EVE, GridError),  # to have it call where it should not
    ):
        with pytest.raises(why):
            await propose(said, by)
    assert await states(network) == [[]]


async def test_no_word_of_a_stranger_or_of_another_association_moves_one(start: Start) -> None:
    """In the system that this comes from, two calls of anybody's approved an association."""
    node, network = await pair(start)
    elsewhere = await start("gateway", b"h")
    asked = await node.associations.ask(wire.AskFor(network.address))
    second = await node.associations.ask(wire.AskFor(elsewhere.address))

    def word(by: Identity, about: str, said: str, to: Daemon) -> wire.Said:
        return wire.Said(sign_document(by, wire.WORD, wire.Word(about, said, to.identity.id, 0.0)))  # type: ignore[arg-type]

    for target, message, why in (
        (node, word(EVE, asked.id, "accepted", node), BadSignature),
        (node, word(elsewhere.identity, asked.id, "accepted", node), BadSignature),
        (node, word(network.identity, second.id, "accepted", node), BadSignature),
        (node, word(network.identity, asked.id, "accepted", elsewhere), BadSignature),  # said to another
        (node, word(network.identity, "0" * 64, "accepted", node), NotFound),
        (network, word(node.identity, asked.id, "accepted", network), OutOfTurn),  # the asker approves itself
    ):
        with pytest.raises(why):
            await target.associations.heard(message)
    assert await states(network) == [["received"]]
    with pytest.raises(NotFound):
        await network.associations.challenged(wire.Challenge(asked.id))  # it was not this one that asked


async def test_an_old_word_revives_nothing(start: Start) -> None:
    node, network = await pair(start)
    asked = await node.associations.ask(wire.AskFor(network.address))
    accepted = network.associations._said(asked.id, "accepted", node.identity.id)
    _, signed = await node.associations._database.read(lambda connection: get(connection, asked.id))
    await network.associations.decide(asked.id, wire.Decision(True))
    await network.associations.end(asked.id)

    with pytest.raises(OutOfTurn):
        await node.associations.heard(accepted)
    assert digest_of(signed) == asked.id
    assert (await network.associations.proposed(wire.Propose(signed))).word is not None
    assert await states(node, network) == [["ended"], ["ended"]]


async def test_only_the_daemons_people_ask_and_decide(start: Start) -> None:
    node, network = await pair(start)
    asked = await node.associations.ask(wire.AskFor(network.address))

    for endpoint, message in (
        (wire.ASSOCIATIONS, None),
        (wire.ASK_FOR, wire.AskFor(node.address)),
        (wire.DECIDE, wire.Decision(True)),
        (wire.END, None),
    ):
        path = {"id": asked.id} if "{id}" in endpoint.path else {}
        with pytest.raises(NotAllowed):
            await node.calls.call(network.address, endpoint, message, sign=True, **path)
