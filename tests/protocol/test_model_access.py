"""Whose word holds about a model: one's own rule, then those of groups, then everybody's."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.protocol.model_access import ALL, NOTHING, Rule, admit_commit, admit_open, rule_for
from grid.wire.problems import CommitsSpent, NotAllowed

SHUT, OPEN = Rule("", sees=False), Rule("", commits=True)
CHOICES = (None, SHUT, OPEN)


def about(subject: str, rule: Rule | None) -> list[Rule]:
    return [] if rule is None else [Rule(subject, sees=rule.sees, commits=rule.commits)]


@pytest.mark.parametrize(("own", "group", "everybody"), list(product(CHOICES, repeat=3)))
def test_ones_own_rule_comes_before_those_of_groups_and_these_before_everybodys(
    own: Rule | None, group: Rule | None, everybody: Rule | None
) -> None:
    rules = [*about("ann", own), *about("@clinics", group), *about("*", everybody)]
    expected = next((rule for rule in (own, group, everybody) if rule is not None), SHUT)

    assert rule_for(rules, "ann", {"clinics"}).commits is expected.commits
    assert rule_for(rules, "ann", {"clinics"}).sees is expected.sees
    assert rule_for(rules, "bob").commits is (everybody is OPEN)


def test_without_a_rule_nobody_sees_a_model() -> None:
    assert rule_for([], "ann", {"clinics"}) == NOTHING
    assert rule_for([Rule("bob")], None) == NOTHING


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5))
def test_of_several_groups_the_most_generous_maximum_holds(maxima: list[int]) -> None:
    rules = [Rule(f"@{n}", commits=True, most=most) for n, most in enumerate(maxima)]
    joint = rule_for(rules, "ann", {str(n) for n in range(len(maxima))})

    assert joint.most == (0 if 0 in maxima else max(maxima))


def test_a_commit_needs_the_owners_leave_and_one_that_is_left() -> None:
    admit_commit(Rule("ann", commits=True, most=2), "lung", 1)
    admit_commit(ALL, "lung", 1_000_000)
    admit_open(ALL, "lung")
    with pytest.raises(CommitsSpent, match="2 are allowed"):
        admit_commit(Rule("ann", commits=True, most=2), "lung", 2)
    with pytest.raises(NotAllowed):
        admit_commit(Rule("ann"), "lung", 0)
    with pytest.raises(NotAllowed):
        admit_open(Rule("ann", commits=True), "lung")
