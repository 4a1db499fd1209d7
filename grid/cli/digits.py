"""Real data for the demo: handwritten digits, dealt unevenly to nodes, and a test set that no node gets.

1,797 scans of 8 x 8 pixels: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine
Learning Repository (1998), doi:10.24432/C50P49, CC BY 4.0; the part that scikit-learn ships.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import random
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from grid.learning.tensors import Layout, TensorSpec, header_bytes

CLASSES = 10
PIXELS = 64
LARGEST = 16
"""The value of a black pixel."""

COLUMNS = (*(f"pixel_{row}_{column}" for row in range(8) for column in range(8)), "digit")
SKEW = 1.0
"""The Dirichlet parameter of a share's labels: the smaller, the more the shares differ."""

LEAST = 48
"""Rows that every node gets: with a fifth of them held out, a plan may still train on them."""

_TRIES = 100


class Scan(NamedTuple):
    """One handwritten digit: 64 grey values from 0 to 1, row by row, and which digit it is."""

    pixels: tuple[float, ...]
    digit: int


Share = tuple[Scan, ...]


class Dealt(NamedTuple):
    """Shares for nodes, and the test set that none of them has. `skew` is the parameter that was used."""

    shares: tuple[Share, ...]
    test: Share
    skew: float


def load(rows: int | None = None, seed: int = 0) -> Share:
    """All scans, or `rows` of them drawn at random, in an order drawn at random.

    Raises:
        FileNotFoundError: scikit-learn is not installed; it brings the scans.
    """
    with gzip.open(_file(), "rt", newline="") as text:
        scans = [_scan([int(float(cell)) for cell in line]) for line in csv.reader(text)]
    random.Random(seed).shuffle(scans)  # noqa: S311 no secret
    return tuple(scans[:rows])


def deal(scans: Sequence[Scan], nodes: int, seed: int = 0, skew: float = SKEW, test: float = 0.25) -> Dealt:
    """Every scan to one of the nodes, or to the test set: `test` of each digit.

    Which share of a digit goes to which node is drawn from a Dirichlet distribution, so each node has many of
    some digits and few of others. Where that leaves somebody with fewer than `LEAST`, it is drawn again, and
    after some tries more evenly.

    Raises:
        ValueError: there are too few scans for so many nodes.

    Source: Hsu, Qi and Brown 2019, arXiv:1909.06335, section 3.
    """
    of_digit = [list(group) for _, group in groupby(sorted(scans, key=_digit), key=_digit)]
    held = [round(test * len(group)) for group in of_digit]
    kept = tuple(scan for group, count in zip(of_digit, held, strict=True) for scan in group[:count])
    rest = [group[count:] for group, count in zip(of_digit, held, strict=True)]
    if nodes * LEAST > sum(map(len, rest)):
        raise ValueError(f"{len(scans)} rows are too few for {nodes} nodes: each needs {LEAST}, and the test set some")
    draw = random.Random(seed)  # noqa: S311 no secret
    while True:
        for _ in range(_TRIES):
            shares = _dealt(rest, nodes, skew, draw)
            if min(map(len, shares)) >= LEAST:
                return Dealt(shares, kept, skew)
        skew *= 2


def labels(share: Sequence[Scan]) -> list[int]:
    """How many of each digit there are, from 0 to 9."""
    counted = Counter(scan.digit for scan in share)
    return [counted[digit] for digit in range(CLASSES)]


def write_csv(share: Iterable[Scan], path: Path) -> None:
    """A table with a column for each pixel and one for the digit."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        table.writerows((*map(_short, scan.pixels), scan.digit) for scan in share)


def write_tensors(share: Sequence[Scan], path: Path) -> None:
    """A file as a node keeps it: `features`, float32 (n, 64), and `target`, int64 (n)."""
    layout = Layout([TensorSpec("features", "F32", (len(share), PIXELS)), TensorSpec("target", "I64", (len(share),))])
    values = {
        "features": array("f", (value for scan in share for value in scan.pixels)).tobytes(),
        "target": array("q", (scan.digit for scan in share)).tobytes(),
    }
    path.write_bytes(header_bytes(layout) + b"".join(values[spec.name] for spec in layout.specs))


def _file() -> Path:
    # Found, not imported: importing scikit-learn takes seconds.
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the scans come with scikit-learn: install grid-daemon[demo]")
    return Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"


def _scan(cells: Sequence[int]) -> Scan:
    return Scan(tuple(cell / LARGEST for cell in cells[:PIXELS]), cells[PIXELS])


def _digit(scan: Scan) -> int:
    return scan.digit


def _short(value: float) -> str:
    return f"{value:g}"


def _dealt(of_digit: Sequence[Sequence[Scan]], nodes: int, skew: float, draw: random.Random) -> tuple[Share, ...]:
    shares: list[list[Scan]] = [[] for _ in range(nodes)]
    for scans in of_digit:
        for share, part in zip(shares, _cut(scans, [draw.gammavariate(skew, 1) for _ in shares]), strict=True):
            share.extend(part)
    for share in shares:
        draw.shuffle(share)
    return tuple(map(tuple, shares))


def _cut(scans: Sequence[Scan], weights: Sequence[float]) -> list[Sequence[Scan]]:
    """Consecutive parts with lengths as the weights (together more than 0)."""
    total, position, done = sum(weights), 0, 0.0
    parts = []
    for weight in weights:
        done += weight
        end = round(done / total * len(scans)) if total else 0
        parts.append(scans[position:end])
        position = end
    parts[-1] = [*parts[-1], *scans[position:]]
    return parts
