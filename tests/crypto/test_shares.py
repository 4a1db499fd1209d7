from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.crypto.errors import Malformed
from grid.crypto.shares import PRIME, SHARE_BYTES, combine, split

SECRET = bytes(range(32))


def test_the_shares_of_a_known_line_are_known() -> None:
    # By hand: the secret is 5, the line 5 + 7 x.
    shares = split((5).to_bytes(32, "big"), 2, 3, below=lambda _: 7)

    assert [int.from_bytes(share, "big") for share in shares] == [12, 19, 26]
    assert combine({1: shares[0], 3: shares[2]}, 2) == (5).to_bytes(32, "big")


@given(st.binary(min_size=32, max_size=32), st.integers(1, 12), st.data())
def test_any_threshold_of_the_shares_give_the_secret_back(secret: bytes, count: int, data: st.DataObject) -> None:
    threshold = data.draw(st.integers(1, count))
    shares = dict(enumerate(split(secret, threshold, count), start=1))
    kept = data.draw(st.sets(st.sampled_from(sorted(shares)), min_size=threshold))

    assert combine({number: shares[number] for number in kept}, threshold) == secret


def test_fewer_shares_than_the_threshold_fit_every_secret() -> None:
    # Two points of a parabola: for whatever secret there is a third point that leads to it.
    shares = split(SECRET, 3, 3)
    secrets = {
        combine({1: shares[0], 2: shares[1], 3: third.to_bytes(SHARE_BYTES, "big")}, 3) for third in fitting(shares)
    }

    assert secrets == {bytes(32), bytes(31) + b"\1", SECRET}


def fitting(shares: list[bytes]) -> list[int]:
    """The third points with which the first two shares give 0, 1 and the secret: y3 = s + 3 (y2 - y1)."""
    one, two = (int.from_bytes(share, "big") for share in shares[:2])
    return [(wanted + 3 * (two - one)) % PRIME for wanted in (0, 1, int.from_bytes(SECRET, "big"))]


@pytest.mark.parametrize(
    "shares",
    [
        {1: bytes(33)},
        {0: bytes(33), 1: bytes(33)},
        {1: bytes(32), 2: bytes(33)},
        {1: PRIME.to_bytes(33, "big"), 2: bytes(33)},
        {1: b"\xff" * 33, 2: bytes(33)},
        {5000: bytes(33), 2: bytes(33)},
    ],
    ids=["too few", "number zero", "short", "the prime itself", "above the prime", "number too high"],
)
def test_what_is_no_share_is_refused(shares: dict[int, bytes]) -> None:
    with pytest.raises(Malformed):
        combine(shares, 2)


def test_shares_that_lead_to_more_than_a_secret_are_refused() -> None:
    with pytest.raises(Malformed, match="not of one secret"):
        combine({1: (2**256 + 1).to_bytes(33, "big")}, 1)


@pytest.mark.parametrize(("threshold", "count"), [(0, 3), (4, 3), (1, 5000)])
def test_impossible_splits_are_refused(threshold: int, count: int) -> None:
    with pytest.raises(Malformed):
        split(SECRET, threshold, count)


def test_a_secret_has_32_bytes() -> None:
    with pytest.raises(Malformed):
        split(b"short", 1, 1)
