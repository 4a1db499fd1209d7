"""Pins: the first key stays, another is refused and named."""

from __future__ import annotations

import pytest

from grid.crypto.identity import Identity, fingerprint
from grid.protocol.pins import Pin, met, spelled
from grid.wire.problems import KeyChanged

ANN, BOB, EVE = (Identity.from_seed(letter * 32) for letter in (b"a", b"b", b"e"))


def test_whoever_is_met_first_is_known_from_then_on() -> None:
    pin = met(None, "ann", ANN.id, 10.0)

    assert pin == Pin("ann", ANN.id, 10.0, 10.0, "first use")
    assert met(pin, "ann", ANN.id, 20.0) == Pin("ann", ANN.id, 10.0, 20.0, "first use")
    assert met(pin, "ann", ANN.id, 5.0).last_seen == 10.0  # a clock that was set back


def test_another_key_is_refused_with_name_both_fingerprints_and_what_to_do() -> None:
    with pytest.raises(KeyChanged) as refused:
        met(Pin("ann", ANN.id, 1.0, 1.0, "by hand"), "ann", EVE.id, 2.0)

    for said in ("ann", fingerprint(ANN.public), fingerprint(EVE.public), "peer forget ann"):
        assert said in refused.value.detail


def test_a_pin_follows_a_key_that_gave_its_place_to_another_and_no_circle_holds_it_up() -> None:
    pin, moved = Pin("ann", ANN.id, 1.0, 1.0, "by hand"), {ANN.id: BOB.id, BOB.id: EVE.id}

    assert met(pin, "ann", EVE.id, 2.0, moved) == Pin("ann", EVE.id, 1.0, 2.0, "by hand")
    with pytest.raises(KeyChanged):
        met(pin, "ann", EVE.id, 2.0, {ANN.id: BOB.id, BOB.id: ANN.id})
    with pytest.raises(KeyChanged):
        met(pin, "ann", EVE.id, 2.0, {EVE.id: ANN.id})


def test_what_is_no_key_is_shown_as_such() -> None:
    assert spelled("nonsense") == "'nonsense', which is no key"
