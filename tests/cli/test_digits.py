from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.cli import digits
from grid.learning.tensors import read_header

ALL = digits.load()


def test_the_scans_are_all_there() -> None:
    assert len(ALL) == 1797
    assert min(digits.labels(ALL)) == 174
    assert {len(scan.pixels) for scan in ALL} == {64}
    assert {value for scan in ALL for value in scan.pixels} == {grey / 16 for grey in range(17)}


def test_the_order_is_drawn_by_the_seed() -> None:
    assert digits.load(seed=1) == digits.load(seed=1)
    assert digits.load(seed=1) != digits.load(seed=2)
    assert digits.load(rows=100, seed=1) == digits.load(seed=1)[:100]


@settings(max_examples=20, deadline=None)
@given(nodes=st.integers(1, 9), seed=st.integers(0, 1000), skew=st.sampled_from([0.1, 0.5, 1.0, 100.0]))
def test_every_scan_goes_to_one_node_or_the_test_set(nodes: int, seed: int, skew: float) -> None:
    scans = ALL[:700]

    dealt = digits.deal(scans, nodes, seed, skew)

    assert len(dealt.shares) == nodes
    assert Counter(map(id, [*dealt.test, *(scan for share in dealt.shares for scan in share)])) == Counter(
        map(id, scans)
    )
    assert min(map(len, dealt.shares)) >= digits.LEAST


def test_the_test_set_has_its_part_of_each_digit() -> None:
    test = digits.deal(ALL, 3).test

    for kept, whole in zip(digits.labels(test), digits.labels(ALL), strict=True):
        assert kept == pytest.approx(whole / 4, abs=0.5)


def test_shares_are_unlike_each_other_and_the_same_again() -> None:
    dealt = digits.deal(ALL, 3, seed=0)

    assert dealt == digits.deal(ALL, 3, seed=0)
    rarest = [min(digits.labels(share)) / len(share) for share in dealt.shares]
    assert max(rarest) < 0.05  # in an even share, each digit would be about a tenth
    assert dealt.skew == digits.SKEW


def test_skew_gives_way_where_somebody_would_have_too_little() -> None:
    scans = ALL[:600]

    assert digits.deal(scans, 9, skew=0.01).skew > 0.01
    with pytest.raises(ValueError, match="too few for 12 nodes"):
        digits.deal(scans, 12)


def test_a_share_is_a_table_and_a_file_of_tensors(tmp_path: Path) -> None:
    share = ALL[:50]

    digits.write_csv(share, tmp_path / "share.csv")
    digits.write_tensors(share, tmp_path / "share.safetensors")

    with (tmp_path / "share.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["digit"]) for row in rows] == [scan.digit for scan in share]
    assert tuple(float(rows[0][name]) for name in digits.COLUMNS[:64]) == share[0].pixels
    layout, _, _ = read_header((tmp_path / "share.safetensors").read_bytes())
    assert {str(spec) for spec in layout.specs} == {"features F32[50, 64]", "target I64[50]"}
