from __future__ import annotations

from collections.abc import Mapping, Set

from hypothesis import given
from hypothesis import strategies as st

from grid.protocol.round import AGGREGATING, NodeFailed, Policy, Sum, UpdateAccepted, UploadBegan, advance, open_round
from grid.protocol.spread import FEW, PARTS, SpreadNames, SpreadNotes, added, forgotten, noted, removed

MANY = [f"node-{number}" for number in range(FEW + 50)]
names = st.one_of(st.sampled_from(MANY), st.sampled_from(["alice", "bob", "carol"]))


@given(st.lists(st.tuples(st.booleans(), names), max_size=30))
def test_many_names_change_as_a_frozenset_does(changes: list[tuple[bool, str]]) -> None:
    spread: Set[str] = SpreadNames.of(MANY)
    plain = frozenset(MANY)
    for adds, name in changes:
        before, copy = spread, frozenset(spread)
        spread = added(spread, name) if adds else removed(spread, name)
        plain = plain | {name} if adds else plain - {name}

        assert (spread, len(spread)) == (plain, len(plain))
        assert (name in spread) == adds
        assert before == copy  # the old one is as it was


@given(st.lists(st.tuples(st.booleans(), names, st.integers()), max_size=30))
def test_many_notes_change_as_a_dict_does_and_keep_its_order(changes: list[tuple[bool, str, int]]) -> None:
    plain = dict.fromkeys(MANY, 0)
    spread: Mapping[str, int] = SpreadNotes.of(plain)
    for adds, name, note in changes:
        before, copy = spread, dict(spread)
        if adds:
            spread, plain = noted(spread, name, note), {**plain, name: note}
        else:
            spread = forgotten(spread, name)
            plain.pop(name, None)

        assert (spread, list(spread), len(spread)) == (plain, list(plain), len(plain))
        assert spread.get(name) == plain.get(name)
        assert before == copy


def test_few_are_plain_and_many_are_spread() -> None:
    few: Set[str] = frozenset()
    notes: Mapping[str, str] = {}
    for number, name in enumerate(MANY):
        few, notes = added(few, name), noted(notes, name, "why")

        assert isinstance(few, frozenset) == isinstance(notes, dict) == (number < FEW)
    assert removed(few, "mallory") is few
    assert forgotten(notes, "mallory") is notes


def test_what_is_computed_from_many_names_is_a_frozenset() -> None:
    assert type(SpreadNames.of(MANY) - frozenset(MANY[1:])) is frozenset
    assert "node-0" in repr(SpreadNames.of(MANY))
    assert "node-0" in repr(SpreadNotes.of({"node-0": 1}))


def test_a_round_of_many_nodes_goes_as_one_of_few() -> None:
    r = open_round(1, Policy(quorum=1, target=len(MANY), deadline=100.0), frozenset(MANY), at=0.0)
    for name in MANY:
        r, _ = advance(r, UploadBegan(name, 1.0))
    r, _ = advance(r, NodeFailed(MANY[0], "gone"))
    for name in reversed(MANY[1:]):
        r, effects = advance(r, UpdateAccepted(name, 2.0, 3.0))

    assert (r.state, r.failed) == (AGGREGATING, {MANY[0]: "gone"})
    assert effects == (Sum(tuple((name, 2.0) for name in reversed(MANY[1:]))),)


def test_what_grows_is_spread_over_more_parts_and_stays_the_same() -> None:
    spread: Set[str] = SpreadNames.of(MANY)
    notes: Mapping[str, int] = SpreadNotes.of({})
    for number in range(PARTS**2 + 10):
        spread, notes = added(spread, f"node-{number}"), noted(notes, f"node-{number}", number)

    assert len(spread) == len(notes) == PARTS**2 + 10
    assert list(notes.values()) == list(range(len(notes)))
    assert set(spread) == set(notes)
