from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.protocol.neighbours import COMPLETE, Circle
from grid.protocol.secure_sum import (
    DEALT,
    MASKED,
    REVEALED,
    Broken,
    Part,
    Reveal,
    SharesCame,
    SurvivorsNamed,
    Terms,
    VectorSent,
    advance,
    took_part,
    usual_threshold,
)
from grid.wire.problems import GridError, OutOfTurn, SumRefused

FIVE = ("ann", "bob", "carol", "dan", "eve")
ALL = frozenset(FIVE)


def nodes(text: str) -> frozenset[str]:
    return frozenset(text.split())


def ann() -> Part:
    """Ann's part, once keys were told."""
    return took_part("ann", FIVE, 4, Terms(3), Circle(FIVE, 4, b""))


def masked(dealers: frozenset[str] = ALL) -> Part:
    """Ann's part, once her vector is out."""
    part = ann()
    for event in (SharesCame(dealers), VectorSent()):
        part, _ = advance(part, event)
    return part


def test_a_node_reveals_masks_of_those_in_the_sum_and_keys_of_those_who_are_gone() -> None:
    survivors = nodes("ann bob carol dan")

    part, effects = advance(masked(), SurvivorsNamed(survivors, survivors))

    assert part.state == REVEALED
    assert effects == (Reveal(masks=survivors, keys=nodes("eve")),)


def test_what_was_lost_on_its_way_is_told_again_and_nothing_else() -> None:
    survivors = nodes("ann bob carol dan")
    part, first = advance(masked(), SurvivorsNamed(survivors, survivors))

    assert advance(part, SurvivorsNamed(survivors, survivors))[1] == first
    with pytest.raises(SumRefused, match="another set of survivors was named before"):
        advance(part, SurvivorsNamed(ALL, ALL))


@pytest.mark.parametrize(
    ("survivors", "signed", "why"),
    [
        (nodes("ann bob carol"), ALL, "3 nodes survived, 4 are needed"),
        (nodes("bob carol dan eve"), ALL, "this node is left out"),
        (ALL | {"mallory"}, ALL, "not among those who dealt"),
        (ALL, nodes("ann bob carol"), "3 nodes signed this set"),
        (nodes("ann bob carol dan"), nodes("ann bob carol eve"), "3 nodes signed this set"),
    ],
)
def test_survivors_that_would_betray_somebody_are_refused(
    survivors: frozenset[str], signed: frozenset[str], why: str
) -> None:
    with pytest.raises(SumRefused, match=why):
        advance(masked(), SurvivorsNamed(survivors, signed))


def test_a_node_that_dealt_no_shares_cannot_be_in_the_sum() -> None:
    with pytest.raises(SumRefused, match="not among those who dealt"):
        advance(masked(nodes("ann bob carol dan")), SurvivorsNamed(ALL, ALL))


@pytest.mark.parametrize(
    ("dealers", "why"),
    [
        (nodes("ann bob carol"), "3 nodes dealt shares, 4 are needed"),
        (nodes("bob carol dan eve"), "own were left out"),
        (ALL | {"mallory"}, "of nodes that deal it none"),
    ],
)
def test_shares_that_would_not_do_are_refused(dealers: frozenset[str], why: str) -> None:
    with pytest.raises(SumRefused, match=why):
        advance(ann(), SharesCame(dealers))


@pytest.mark.parametrize(
    ("roster", "threshold", "terms", "why"),
    [
        (("bob", "carol", "dan"), 3, Terms(), "not in the roster"),
        (("ann", "bob", "bob"), 3, Terms(), "twice"),
        (("ann", "bob"), 2, Terms(), "2 nodes in the roster, this node asks for 3"),
        (("ann",), 1, Terms(0), "asks for 2"),
        (FIVE, 2, Terms(), "does not hold against 0"),
        (FIVE, 3, Terms(colluding=1), "does not hold against 1"),
        (FIVE, 6, Terms(), "does not hold"),
    ],
)
def test_a_node_takes_no_part_in_a_sum_that_does_not_protect_it(
    roster: tuple[str, ...], threshold: int, terms: Terms, why: str
) -> None:
    with pytest.raises(SumRefused, match=why):
        took_part("ann", roster, threshold, terms, Circle(roster, threshold, b""))


def test_nothing_is_revealed_before_the_vector_is_out_or_after_something_was_wrong() -> None:
    part = ann()
    for event in (SharesCame(ALL), Broken("a signature was forged")):
        with pytest.raises(OutOfTurn):
            advance(part, SurvivorsNamed(ALL, ALL))
        part, _ = advance(part, event)
    assert part.reason == "a signature was forged"
    with pytest.raises(OutOfTurn):
        advance(part, SurvivorsNamed(ALL, ALL))


@given(st.integers(2, 500))
def test_the_usual_threshold_withstands_a_third_of_the_nodes(roster: int) -> None:
    colluding = (roster - 1) // 3
    Terms(2, colluding=min(colluding, 2 * usual_threshold(roster) - roster - 1)).check(roster, usual_threshold(roster))
    assert 2 * usual_threshold(roster) > roster + roster // 3 - 1


SETS = st.frozensets(st.sampled_from([*FIVE, "mallory"]))
EVENTS = st.one_of(st.builds(SharesCame, SETS), st.just(VectorSent()), st.builds(SurvivorsNamed, SETS, SETS))


@given(st.lists(EVENTS | st.sampled_from([SharesCame(ALL), VectorSent(), SurvivorsNamed(ALL, ALL)]), max_size=20))
def test_whatever_a_coordinator_says_no_node_gives_away_both_kinds_of_shares_of_anybody(events: list[object]) -> None:
    part, masks, keys = ann(), set[str](), set[str]()
    for event in events:
        try:
            part, effects = advance(part, event)
        except GridError:
            continue
        for effect in effects:
            masks |= effect.masks
            keys |= effect.keys
    assert not masks & keys
    assert not masks or (len(masks) >= 4 and "ann" in masks)
    assert part.state in {DEALT, MASKED, REVEALED, ann().state}


# --- among many -----------------------------------------------------------------------------------


TERMS = Terms()
MANY = tuple(f"node-{at:03}" for at in range(COMPLETE + 44))
AMONG_MANY = Circle(MANY, usual_threshold(len(MANY)), b"seed")
NEAR = frozenset(AMONG_MANY.holders("node-007"))


def among_many(terms: Terms = TERMS) -> Part:
    """The part of one of three hundred, once its vector is out."""
    part = took_part("node-007", MANY, usual_threshold(len(MANY)), terms, AMONG_MANY)
    for event in (SharesCame(NEAR), VectorSent()):
        part, _ = advance(part, event)
    return part


def test_among_many_a_node_reveals_what_it_holds_of_its_neighbours_and_no_others() -> None:
    gone = sorted(NEAR - {"node-007"})[:3]
    survivors = frozenset(MANY) - frozenset(gone) - {next(node for node in MANY if node not in NEAR)}

    _, (told,) = advance(among_many(), SurvivorsNamed(survivors, survivors))

    assert told == Reveal(masks=NEAR - set(gone), keys=frozenset(gone))


def test_among_many_survivors_are_consented_to_by_two_thirds_of_all_and_enough_are_near() -> None:
    few = frozenset(sorted(MANY)[: usual_threshold(len(MANY)) - 1])
    far = frozenset(MANY) - frozenset(sorted(NEAR - {"node-007"})[: len(NEAR) - AMONG_MANY.needed + 1])

    with pytest.raises(SumRefused, match="200 nodes signed this set of survivors, not 201"):
        advance(among_many(), SurvivorsNamed(frozenset(MANY), few))
    with pytest.raises(SumRefused, match="53 neighbours survived, 54 are needed"):
        advance(among_many(), SurvivorsNamed(far, far))
    with pytest.raises(SumRefused, match="not among those who dealt"):
        advance(among_many(), SurvivorsNamed(frozenset(MANY) | {"mallory"}, frozenset(MANY)))


def test_among_many_too_few_neighbours_that_dealt_are_refused() -> None:
    part = took_part("node-007", MANY, usual_threshold(len(MANY)), Terms(), AMONG_MANY)
    few = frozenset(sorted(NEAR - {"node-007"})[: AMONG_MANY.needed - 2]) | {"node-007"}

    with pytest.raises(SumRefused, match="53 neighbours dealt shares, 54 are needed"):
        advance(part, SharesCame(few))
    with pytest.raises(SumRefused, match="deal it none"):
        advance(part, SharesCame(frozenset(MANY)))


def test_an_owner_who_reckons_with_more_that_collude_is_not_in_a_sum_of_few_neighbours() -> None:
    with pytest.raises(SumRefused, match="do not hold against 99 that collude"):
        among_many(Terms(colluding=99))
