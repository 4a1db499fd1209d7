"""Whom a lookup asks, and when it is over: rules, without time."""

from __future__ import annotations

import msgspec

from grid.dht.ids import peer_key
from grid.dht.lookup import ALPHA, Lookup
from grid.dht.records import Network
from grid.dht.table import OF_GROUP, Contact, K
from grid.wire.documents import Signed
from grid.wire.problems import GridError
from tests.sim.net import START, identity, record

TARGET = bytes(20)
NETWORK = Network()


def read(signed: Signed) -> Contact | None:
    try:
        return Contact(NETWORK.read(signed, START))
    except GridError:
        return None


def signed(number: int, *, address: str = "http://10.0.0.1:1", at: float = START) -> Signed:
    return record(identity(number), address=address, at=at)


def contacts(count: int, address: str = "http://10.0.0.1:1") -> list[Contact]:
    found = [each for number in range(1, count + 1) if (each := read(signed(number, address=address)))]
    return sorted(found, key=lambda each: each.long_id)


def test_a_late_answer_frees_its_place_and_is_still_welcome() -> None:
    lookup = Lookup(TARGET, contacts(40), read)
    first = lookup.ask()
    assert len(first) == ALPHA
    assert lookup.ask() == []

    lookup.late(first[0])
    assert len(lookup.ask()) == 1
    lookup.answered(first[0], ())

    assert first[0] in lookup.nearest()


def test_it_is_over_when_the_nearest_that_live_have_answered() -> None:
    lookup, dead = Lookup(TARGET, contacts(40), read), set[bytes]()
    while not lookup.done:
        for index, contact in enumerate(lookup.ask()):
            if index % 2:
                lookup.failed(contact)
                dead.add(contact.id)
            else:
                lookup.answered(contact, ())

    expected = [each.id for each in contacts(40) if each.id not in dead][:K]
    assert [each.id for each in lookup.nearest()] == expected


def test_a_read_ends_after_enough_holders_and_nobody_nearer() -> None:
    lookup = Lookup(TARGET, contacts(40), read, enough=2)
    asked = lookup.ask()
    for contact in asked[1:]:
        lookup.answered(contact, (), holds=True)
    assert not lookup.done
    lookup.answered(asked[0], ())

    assert lookup.done
    assert lookup.calls == ALPHA


def test_who_finds_nobody_is_done() -> None:
    assert Lookup(TARGET, [], read).done


def test_if_all_are_late_the_first_answer_is_waited_for() -> None:
    lookup = Lookup(TARGET, contacts(2), read)
    for contact in lookup.ask():
        lookup.late(contact)

    assert not lookup.done
    assert len(lookup.silent()) == 2


def test_forged_words_about_a_peer_do_not_hide_it() -> None:
    true = signed(7)
    forged = msgspec.structs.replace(true, payload=true.payload + b"\0")
    lookup = Lookup(TARGET, [], read)
    lookup.learn([forged, true])

    assert [each.id for each in lookup.ask()] == [peer_key(identity(7).public)]


def test_a_forged_word_alone_asks_nobody_and_leaves_nothing_behind() -> None:
    true = signed(7)
    lookup = Lookup(TARGET, contacts(1), read)
    lookup.learn([msgspec.structs.replace(true, payload=b"")])
    assert len(lookup.ask()) == 1
    lookup.learn([true])

    assert [each.id for each in lookup.ask()] == [peer_key(identity(7).public)]


def test_a_key_that_is_none_is_passed_over() -> None:
    lookup = Lookup(TARGET, [], read)
    lookup.learn([msgspec.structs.replace(signed(7), signer="_" * 43)])

    assert lookup.done


def test_one_that_did_not_answer_is_asked_where_it_moved_to() -> None:
    old, new = signed(7, address="http://old:1"), signed(7, address="http://new:1", at=START + 1)
    lookup = Lookup(TARGET, [], read)
    lookup.learn([old])
    (contact,) = lookup.ask()
    lookup.failed(contact)
    lookup.learn([old])
    assert lookup.ask() == []
    lookup.learn([new])

    assert [each.address for each in lookup.ask()] == ["http://new:1"]


def test_few_of_one_group_are_asked_however_near_they_are() -> None:
    lookup = Lookup(TARGET, contacts(30, "http://8.8.8.8:1"), read)

    assert len(lookup.ask()) == OF_GROUP


def test_what_is_remembered_has_an_end() -> None:
    lookup = Lookup(TARGET, contacts(400), read)

    assert len(lookup._order) <= 256
