"""Requests for access: what is granted is taken back in the end, whatever happens in between."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.crypto.identity import Identity
from grid.protocol.audit_log import verified
from grid.protocol.documents import sign_document
from grid.protocol.request import (
    ACCEPTED,
    LAPSED,
    RELEASED,
    Accepted,
    Denied,
    Grant,
    OverBudget,
    Request,
    TakeBack,
    TimeOver,
    Used,
    Withdrawn,
    advance,
    likeness,
)
from grid.wire.problems import LogForked, OutOfTurn
from grid.wire.requests import AUDIT_ENTRY, Ask, AuditEntry, Training

ASKED = Request(1, "sue", Ask("download", "scans", "a study", tensor="age"), 0.0, 90.0)
NODE, EVE = Identity.from_seed(b"n" * 32), Identity.from_seed(b"e" * 32)

EVENTS = st.one_of(
    st.builds(Accepted, by=st.just("cora"), why=st.just(""), at=st.just(1.0), expires=st.just(30.0)),
    st.builds(Denied, by=st.just("cora"), why=st.just("no"), at=st.just(1.0)),
    st.builds(OverBudget, why=st.just("spent"), at=st.just(1.0)),
    st.builds(Withdrawn, at=st.just(2.0)),
    st.builds(Used, at=st.just(3.0)),
    st.builds(TimeOver, at=st.sampled_from([5.0, 29.0, 30.0, 90.0])),
)


@given(st.lists(EVENTS, max_size=12))
def test_a_grant_is_open_exactly_while_it_was_accepted_and_not_taken_back(events: list[object]) -> None:
    request, granted = ASKED, 0
    for event in events:
        try:
            request, effects = advance(request, event)
        except OutOfTurn:
            continue
        granted += sum(isinstance(each, Grant) for each in effects) - sum(isinstance(e, TakeBack) for e in effects)
        assert granted == (request.state in {ACCEPTED, RELEASED})


def test_what_was_accepted_lasts_as_long_as_the_officer_says() -> None:
    accepted, _ = advance(ASKED, Accepted("cora", "fine", 1.0, 30.0))

    assert advance(accepted, TimeOver(29.0))[0] == accepted
    lapsed, effects = advance(accepted, TimeOver(30.0))
    assert (lapsed.state, effects, lapsed.by, lapsed.why) == (LAPSED, (TakeBack(),), "cora", "fine")


def test_trainings_are_alike_when_they_would_do_the_same() -> None:
    one = Training("0" * 64, 3, strategy={"client": {"mu": 0.5}, "upload": {"type": "exact"}})
    same = Training("0" * 64, 3, strategy={"upload": {"type": "exact"}, "client": {"mu": 0.5}})

    assert likeness(one) == likeness(same)
    assert len({likeness(each) for each in (one, Training("0" * 64, 4), Training("1" * 64, 3))}) == 3


def test_a_log_whose_lines_are_changed_left_out_or_put_in_is_found_out() -> None:
    signed, before = [], ""
    for n in range(1, 5):
        entry = AuditEntry(n, float(n), "request-pending", {"request": n}, before)
        signed.append(sign_document(NODE, AUDIT_ENTRY, entry))
        before = hashlib.sha256(signed[-1].payload).hexdigest()

    assert [entry.data["request"] for entry in verified(signed, NODE.id)] == [1, 2, 3, 4]
    forged = sign_document(EVE, AUDIT_ENTRY, AuditEntry(2, 2.0, "request-accepted", {"request": 2}, ""))
    for wrong in (
        [*signed[:1], *signed[2:]],
        [signed[1], signed[0], *signed[2:]],
        [*signed[:1], forged, *signed[2:]],
        [*signed, signed[-1]],
        signed[1:],
    ):
        with pytest.raises(LogForked, match="entry"):
            list(verified(wrong, NODE.id))
    with pytest.raises(LogForked):
        list(verified(signed, EVE.id))
