from __future__ import annotations

from msgspec.structs import replace

from grid.gateway.claim import Claim, read_claim
from grid.gateway.roll import Listed, Roll
from grid.protocol.membership import OFFLINE, ONLINE, State, joined
from tests.gateway.fakes import START, Key


def listed(node_id: str, *tags: str, state: State = ONLINE) -> Listed:
    claim = read_claim(Key(1).join(node_id, *tags), START) if tags else Claim(node_id, "http://rfc.example")
    return Listed(replace(joined(node_id, START, 90.0, verified=bool(tags)), state=state), claim)


def test_members_come_in_order_of_id_page_by_page() -> None:
    roll = Roll()
    for node_id in ("c", "a", "d", "b"):
        roll.place(listed(node_id, "#x"))

    assert [one.claim.node_id for one in roll] == ["a", "b", "c", "d"]
    assert [one.claim.node_id for one in roll.page("a", 2)] == ["b", "c"]
    assert roll.page("d", 2) == []


def test_only_members_that_may_be_found_are_in_the_index() -> None:
    roll, alice = Roll(), listed("alice", "#x")
    roll.place(alice)
    roll.place(listed("Bob"))
    roll.place(listed("carol", "#x", state=OFFLINE))

    assert roll.tags.having_all(["#x"]) == {"alice"}
    assert (roll.mute, roll.found(), len(roll)) == ({"Bob"}, 2, 3)
    roll.update(alice, replace(alice.member, state=OFFLINE))
    assert roll.tags.having_all(["#x"]) == set()
    roll.update(alice, replace(alice.member, state=ONLINE))
    assert roll.tags.having_all(["#x"]) == {"alice"}


def test_a_member_in_place_of_another_takes_its_words_away() -> None:
    roll = Roll()
    roll.place(listed("alice", "#old"))
    roll.place(listed("alice", "#new"))

    assert (roll.tags.words(), len(roll)) == (["#new"], 1)
    roll.remove("alice")
    roll.remove("alice")
    assert (roll.tags.words(), len(roll), list(roll)) == ([], 0, [])
