"""The table, where the package's own would lose contacts, keep dead ones, or call strangers."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from grid.dht.ids import BITS
from grid.dht.records import Held
from grid.dht.table import OF_GROUP, SPARE, Contact, K, Table
from grid.wire.dht import PeerRecord
from grid.wire.documents import Signed

OWN = bytes(20)
SOME = Signed(b"", "A" * 43, bytes(64))


def contact(key: int | bytes, *, version: int = 1, address: str = "http://a:1", group: str | None = None) -> Contact:
    place = key if isinstance(key, bytes) else key.to_bytes(20, "big")
    return Contact(Held(SOME, PeerRecord("n", address, version, 9.0), place, group))


def bits(top: int, low: int = 0) -> int:
    return (1 << (BITS - 1 - top)) + low


keys = st.integers(1, 2**BITS - 1)


@given(st.sets(keys, min_size=1, max_size=300), keys)
def test_the_nearest_are_those_that_counting_would_find(known: set[int], target: int) -> None:
    table = Table(OWN)
    kept = {key for key in known if table.heard(contact(key), 0.0)}

    nearest = [each.long_id for each in table.nearest(target.to_bytes(20, "big"))]

    assert nearest == sorted((each.long_id for each in table), key=lambda key: key ^ target)[:K]
    assert {each.long_id for each in table} == kept


@given(st.lists(keys, max_size=300))
def test_buckets_cover_all_keys_and_hold_what_is_theirs(known: list[int]) -> None:
    table = Table(OWN)
    for key in known:
        table.heard(contact(key), 0.0)

    bounds = [bucket.range for bucket in table.buckets]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == 2**BITS - 1
    assert all(one[1] + 1 == two[0] for one, two in pairwise(bounds))
    for bucket in table.buckets:
        assert len(bucket) <= K
        assert len(bucket.replacement_nodes) <= SPARE
        assert all(bucket.has_in_range(node) for node in bucket.get_nodes())


def test_a_key_at_the_bound_of_a_bucket_is_found_where_it_is() -> None:
    table = Table(OWN)
    for low in range(K + 1):
        table.heard(contact(bits(0, low)), 0.0)
    upper = contact(table.buckets[0].range[1])

    assert len(table.buckets) > 1
    assert table.heard(upper, 0.0)
    assert table.get(upper.id) is upper


def test_only_the_range_of_the_peer_itself_is_split() -> None:
    table = Table(OWN)
    for low in range(100):
        table.heard(contact(bits(0, low)), 0.0)

    assert len(table) == K


def test_one_that_came_back_elsewhere_is_one_contact_at_its_new_address() -> None:
    table = Table(OWN)
    table.heard(contact(5, version=1, address="http://old:1"), 0.0)
    table.heard(contact(5, version=2, address="http://new:1"), 1.0)
    table.heard(contact(5, version=1, address="http://old:1"), 2.0)

    assert [each.address for each in table] == ["http://new:1"]


def test_who_is_lost_gives_its_place_to_one_that_waited() -> None:
    table = Table(OWN)
    for low in range(K + 1):
        table.heard(contact(bits(0, low)), 0.0)
    table.heard(contact(1), 0.0)
    table.lost(contact(bits(0, 3)))

    assert table.get(contact(bits(0, K)).id) is not None
    assert table.get(contact(bits(0, 3)).id) is None


def test_few_of_one_group_are_in_a_bucket_and_none_beyond_them_after_a_loss() -> None:
    table = Table(OWN)
    for low in range(30):
        table.heard(contact(bits(0, low), group="one"), 0.0)
    table.heard(contact(bits(0, 50), group="two"), 0.0)

    assert sum(each.group == "one" for each in table) == OF_GROUP
    assert len(table) == OF_GROUP + 1


def test_only_those_seen_alive_of_late_are_told_to_others() -> None:
    table = Table(OWN)
    table.heard(contact(1), 0.0)
    table.heard(contact(2), 1000.0)

    assert [each.long_id for each in table.nearest(OWN, seen_after=500.0)] == [2]
    assert [each.long_id for each in table.stalest(500.0)] == [1]


def test_a_peer_is_no_contact_of_itself() -> None:
    assert not Table(OWN).heard(contact(OWN), 0.0)
