"""Which records count, and what a peer keeps of them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.dht.ids import name_key, peer_key, tag_key
from grid.dht.records import AHEAD, LIFE, LONGEST, Network, group_of
from grid.dht.shelf import Shelf
from grid.protocol.documents import sign_document
from grid.wire.dht import MEMBERSHIP, Membership, Want
from grid.wire.documents import Signed
from grid.wire.problems import BadRequest, BadSignature, Full, GridError, NotAllowed, Replayed
from tests.sim.net import START, identity, record

ANN, BOB, ORG = identity(1), identity(2), identity(3)
PLACE = bytes(20)
GOOD = record(ANN, "#mnist")


def bye(who: int, at: float) -> Signed:
    return record(identity(who), at=at, address="")


@pytest.mark.parametrize(
    ("signed", "problem"),
    [
        (msgspec.structs.replace(GOOD, signer=BOB.id), BadSignature),
        (msgspec.structs.replace(GOOD, payload=GOOD.payload + b"\0"), BadSignature),
        (record(ANN, network="another"), BadRequest),
        (record(ANN, life=LONGEST + AHEAD + 1), Replayed),
        (record(ANN, life=-AHEAD - 1), Replayed),
        (record(ANN, at=START + AHEAD + 1), Replayed),
        (record(ANN, *(f"#{number}" for number in range(65))), BadRequest),
        (record(ANN, *("#" + f"{number}" * 100 for number in range(10, 60))), BadRequest),
        (record(ANN, "#tag", address=""), BadRequest),
        (record(ANN, address="ftp://host"), BadRequest),
        (record(ANN, address="http://user@host"), BadRequest),
    ],
)
def test_what_does_not_count_is_refused(signed: Signed, problem: type[GridError]) -> None:
    with pytest.raises(problem):
        Network().read(signed, START)


def test_a_record_that_was_proved_once_ends_all_the_same() -> None:
    network = Network()
    network.read(GOOD, START)

    with pytest.raises(Replayed):
        network.read(GOOD, START + LIFE + AHEAD)
    with pytest.raises(BadSignature):
        network.read(msgspec.structs.replace(GOOD, payload=GOOD.payload + b"\0"), START)


@given(st.binary(max_size=300), st.binary(min_size=64, max_size=64))
def test_no_bytes_do_more_than_being_refused(payload: bytes, signature: bytes) -> None:
    signed = Signed(payload, ANN.id, ANN.sign("node-record", payload))
    for each in (signed, Signed(payload, ANN.id, signature)):
        with pytest.raises(GridError):
            Network().read(each, START)


def member(who: int, by: int, *, network: str = "n", expires: float = START + 9000) -> Signed:
    said = Membership(identity(who).id, network, "hospital", expires)
    return sign_document(identity(by), MEMBERSHIP, said)


def test_where_members_alone_may_take_part_an_issuer_vouches_for_each() -> None:
    network = Network("n", issuers=frozenset({ORG.id}))

    held = network.read(record(ANN, network="n", membership=member(1, 3)), START)

    assert held.group == f"{ORG.id}/hospital"
    for proof in (None, member(2, 3), member(1, 2), member(1, 3, network="m"), member(1, 3, expires=START + 60)):
        with pytest.raises(NotAllowed):
            network.read(record(ANN, network="n", membership=proof), START)


def test_tags_of_a_network_with_a_secret_lead_elsewhere() -> None:
    assert len({tag_key("#a", "n"), tag_key("#a", "m"), tag_key("#a", "n", b"s"), name_key("#a", "n")}) == 4


def test_addresses_that_one_owner_can_have_many_of_are_one_group() -> None:
    assert group_of("http://8.8.8.1:1") == group_of("http://8.8.8.2:2") == "8.8.8.0/24"
    assert group_of("http://[2001:4860::1]") == group_of("http://[2001:4860:0:9::1]")
    assert group_of("https://a.example.org/x") == group_of("https://b.example.org") == "example.org"
    assert {group_of("http://127.0.0.1:1"), group_of("http://10.0.0.1"), group_of("http://localhost")} == {None}


# --- what is kept -------------------------------------------------------------------------------


def shelf(**options: int) -> Shelf:
    return Shelf(Network(), PLACE, **options)


def names(kept: Shelf, tag: str, now: float = START, **want: tuple[str, ...]) -> list[str]:
    page, _ = kept.page(tag_key(tag, ""), Want(**want), b"", now)
    return sorted(kept._network.read(signed, now).said.node_id for signed in page)


def test_the_newest_record_of_an_owner_stands_under_all_its_keys() -> None:
    kept = shelf()
    old, new = record(ANN, "#a", "#b"), record(ANN, "#b", at=START + 1, name="newer")
    for tag in ("#a", "#b"):
        kept.put(tag_key(tag, ""), old, START)
    kept.put(tag_key("#b", ""), new, START)

    assert names(kept, "#a") == []
    assert names(kept, "#b") == ["newer"]
    assert kept.put(tag_key("#a", ""), old, START) == new
    assert names(kept, "#a") == []


def test_another_key_replaces_nothing_and_nobody_extends_a_record() -> None:
    kept = shelf()
    key = tag_key("#a", "")
    kept.put(key, record(ANN, "#a"), START)
    kept.put(key, record(BOB, "#a", at=START + 1, name="bob"), START)

    assert names(kept, "#a") == ["bob", "node"]
    kept.sweep(START + LIFE + 2)
    assert len(kept) == 0
    assert kept.size == 0


def test_one_version_signed_twice_is_noticed_and_the_first_is_kept() -> None:
    kept, key = shelf(), peer_key(ANN.public)
    first = record(ANN)
    kept.put(key, first, START)

    assert kept.put(key, record(ANN, name="other"), START) == first
    assert kept.doubled == 1


def test_who_said_good_bye_does_not_come_back_by_an_older_record() -> None:
    kept, key, old = shelf(), tag_key("#a", ""), record(ANN, "#a")
    kept.put(key, old, START)
    kept.put(key, bye(1, START + 1), START)

    assert names(kept, "#a") == []
    assert kept.put(key, old, START) == bye(1, START + 1)
    with pytest.raises(BadRequest):
        kept.put(tag_key("#elsewhere", ""), bye(1, START + 1), START)


def test_a_record_is_kept_only_where_it_leads() -> None:
    with pytest.raises(BadRequest):
        shelf().put(tag_key("#other", ""), record(ANN, "#a"), START)


def test_ten_thousand_providers_are_paged_without_one_twice_or_left_out() -> None:
    kept, key, count = shelf(), tag_key("#a", ""), 1500
    for number in range(count):
        kept.put(key, record(identity(100 + number), "#a", name=f"n{number}"), START)
    seen, after = list[Signed](), None
    while True:
        page, after = kept.page(key, Want(limit=400, after=after), b"me", START)
        seen += page
        if after is None:
            break

    assert len({signed.signer for signed in seen}) == len(seen) == count
    firsts = [kept.page(key, Want(limit=1), bytes([asker]), START)[0][0].signer for asker in range(20)]
    assert len(set(firsts)) > 10


@given(st.lists(st.sets(st.sampled_from("abcd")), max_size=12), *[st.sets(st.sampled_from("abcd"))] * 3)
def test_and_or_not_mean_what_they_say(nodes: list[set[str]], all_: set[str], any_: set[str], none: set[str]) -> None:
    kept = shelf()
    for number, tags in enumerate(nodes):
        kept.put(name_key("n", ""), record(identity(50 + number), *sorted(tags), name="n"), START)

    want = Want(all=tuple(all_), any=tuple(any_), none=tuple(none))
    page, _ = kept.page(name_key("n", ""), want, b"", START)

    expected = [number for number, tags in enumerate(nodes) if holds(tags, all_, any_, none)]
    assert {signed.signer for signed in page} == {identity(50 + number).id for number in expected}


def holds(tags: set[str], all_: set[str], any_: set[str], none: set[str]) -> bool:
    return all_ <= tags and not tags & none and (not any_ or bool(tags & any_))


def test_what_is_far_makes_room_for_what_is_near_and_not_the_other_way() -> None:
    kept = shelf(room=4000)
    tags = sorted((f"#{number}" for number in range(40)), key=lambda tag: tag_key(tag, ""), reverse=True)
    for number, tag in enumerate(tags):
        kept.put(tag_key(tag, ""), record(identity(100 + number), tag), START)

    assert kept.size <= 4000
    assert names(kept, tags[-1])
    assert not names(kept, tags[0])
    with pytest.raises(Full):
        kept.put(tag_key(tags[0], ""), record(identity(100), tags[0]), START)


def test_there_is_an_end_to_what_one_key_takes() -> None:
    kept = shelf(under_one=2)
    for number in range(2):
        kept.put(tag_key("#a", ""), record(identity(number + 1), "#a"), START)

    with pytest.raises(Full):
        kept.put(tag_key("#a", ""), record(identity(9), "#a"), START)
    assert kept.put(tag_key("#a", ""), record(identity(1), "#a", at=START + 1), START) is None
