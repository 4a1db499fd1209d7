from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.protocol.fleet import Enough, TooFew
from grid.protocol.series import LATEST, Door, Refusal, Speeds, Terms, admit, next_event, retry_after, share

CHANCE = st.floats(0, 1, exclude_max=True)
COUNT = st.integers(0, 50)


def asks(
    terms: Terms, door: Door, last: int | None = None, speeds: Speeds | None = None, asking: int = 1, draw: float = 0.5
) -> Refusal | None:
    return admit(terms, door, last=last, speeds=speeds or Speeds(), asking=asking, chance=(draw, 0.5), now=1000.0)


def test_a_round_of_so_many_places_takes_so_many() -> None:
    terms = Terms(devices=2)

    assert asks(terms, Door(1, 1)) is None
    refused = asks(terms, Door(1, 2, ends=1600.0))
    assert refused is not None
    assert refused.slug == "full"
    assert refused.retry_after is not None
    assert refused.retry_after >= 600.0  # no sooner than the round is over


@pytest.mark.parametrize(("number", "refused"), [(1, False), (2, True), (4, True), (5, False)])
def test_a_device_rests_for_as_many_rounds_as_its_series_says(number: int, refused: bool) -> None:
    assert (asks(Terms(rest=3), Door(number, 0), last=1) is not None) == refused


@pytest.mark.parametrize(
    ("speeds", "words"),
    [(Speeds(up=10, down=99), "upload"), (Speeds(up=10, down=100), "upload"), (Speeds(up=50, down=99), "download")],
)
def test_a_slow_device_is_told_which_speed_it_lacks(speeds: Speeds, words: str) -> None:
    refused = asks(Terms(up=50, down=100), Door(1, 0), speeds=speeds)

    assert refused is not None
    assert (refused.slug, words in refused.words) == ("too-slow", True)


def test_a_device_that_did_not_measure_is_told_to() -> None:
    refused = asks(Terms(up=50), Door(1, 0))

    assert refused is not None
    assert "measure" in refused.words


def test_the_more_places_the_surer_a_device_is_taken() -> None:
    """PyGrid's own draw was the other way round (`/req-join`): 100 workers wanted, none taken until 140 had asked."""
    assert share(100, 100) == 1.0
    assert share(100, 1000) == pytest.approx(0.1)
    assert share(90, 1000) < share(100, 1000)
    assert asks(Terms(devices=10, selection="random"), Door(1, 0), asking=100, draw=0.09) is None
    refused = asks(Terms(devices=10, selection="random"), Door(1, 0), asking=100, draw=0.11)
    assert refused is not None
    assert refused.slug == "not-drawn"


@given(places=st.integers(1, 50), draw=CHANCE, data=st.data())
def test_all_are_taken_where_there_are_places_for_all(places: int, draw: float, data: st.DataObject) -> None:
    came = data.draw(st.integers(1, places))
    terms = Terms(devices=places, selection="random")

    assert all(asks(terms, Door(1, held), asking=held + 1, draw=draw) is None for held in range(came))


@given(left=st.floats(0, 1e6), asking=st.integers(0, 10**7), spread=CHANCE)
def test_devices_come_again_later_the_more_there_are(left: float, asking: int, spread: float) -> None:
    at = retry_after(left, asking, spread)

    assert 0 < at <= LATEST
    assert at <= retry_after(left, asking * 2, spread)
    assert at <= retry_after(left + 1, asking, spread)


def test_ten_thousand_devices_are_spread_to_a_hundred_a_second() -> None:
    times = sorted(retry_after(0.0, 10_000, number / 10_000) for number in range(10_000))

    assert max(sum(second <= each < second + 1 for each in times) for second in range(110)) <= 101


@given(
    least=st.integers(1, 20), most=COUNT, devices=COUNT, length=st.sampled_from([0.0, 60.0]), held=COUNT, data=st.data()
)
def test_a_round_never_counts_with_too_few_and_always_ends_with_its_time(
    least: int, most: int, devices: int, length: float, held: int, data: st.DataObject
) -> None:
    done = data.draw(st.integers(0, held))
    failed = data.draw(st.integers(0, held - done))
    terms = Terms(least=least, most=most and max(most, least), devices=devices and max(devices, least), length=length)

    goes_on = next_event(terms, held=held, done=done, failed=failed, over=False)
    over = next_event(terms, held=held, done=done, failed=failed, over=True)

    assert over is not None
    assert isinstance(over, Enough) == (done >= least or bool(terms.most and done >= terms.most))
    assert not isinstance(goes_on, TooFew)
    if goes_on is not None:
        assert done >= least
    if terms.most and done >= terms.most:
        assert goes_on == Enough()
    if done >= least and not terms.most and not terms.length:
        assert goes_on == Enough()
