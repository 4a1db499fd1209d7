"""Who takes part, and how each one stands."""

from __future__ import annotations

import pytest

from grid.crypto.identity import Identity
from grid.node.roster import Roster, Standing
from grid.wire.problems import NotInvited
from grid.wire.runs import ParticipantInfo, Peer

ANN, BOB, EVE = (Identity.from_seed(bytes([n]) * 32).id for n in range(3))


def a_roster() -> Roster:
    return Roster([Peer("ann", "http://ann.example", ANN), Peer("bob", "http://bob.example", BOB)])


def test_all_begin_as_invited_and_nobody_else_is_known() -> None:
    roster = a_roster()

    assert roster.keys(Standing.INVITED) == {ANN, BOB}
    assert ANN in roster
    assert EVE not in roster
    with pytest.raises(NotInvited):
        roster[EVE]
    with pytest.raises(NotInvited):
        roster.put(EVE, Standing.READY)


def test_standing_changes_one_at_a_time() -> None:
    roster = a_roster()

    entry = roster.put(ANN, Standing.FAILED, "no memory")
    entry.examples = 7

    assert roster.keys(Standing.FAILED) == {ANN}
    assert roster.keys(Standing.FAILED, Standing.INVITED) == {ANN, BOB}
    assert [entry.info() for entry in roster.entries()] == [
        ParticipantInfo("ann", "failed", "no memory", 7),
        ParticipantInfo("bob", "invited"),
    ]


def test_the_reasons_name_those_that_do_not_take_part() -> None:
    roster = a_roster()
    assert roster.reasons() == ""

    roster.put(ANN, Standing.FAILED, "no memory")
    roster.put(BOB, Standing.GONE)

    assert roster.reasons() == "ann: no memory; bob: gone"


def test_reasons_by_key_become_reasons_by_name() -> None:
    assert a_roster().named({BOB: "gone"}) == {"bob": "gone"}
    with pytest.raises(NotInvited):
        a_roster().name(EVE)
