"""Who holds whose shares in a secure sum: everybody everyone's up to 256 nodes, above that a few neighbours each.

Neighbours are those nearest on a circle on which the nodes stand in an order that all their keys together decide. Their
number is the smallest at which, with a fifth of the nodes colluding and another fifth gone, no node is read (with more
than 1 - 2^-80: whoever tells its keys last could try many) and no sum fails (1 - 2^-20).

Source: Bell et al. 2020, "Secure single-server aggregation with (poly)logarithmic overhead", CCS 2020, ePrint 2020/704
(k-regular graphs). What differs: survivors are consented to by two thirds of all nodes, not of neighbours alone, so a
coordinator cannot show two sets of them, and fewer colluding holders than shares that are needed is all that it takes.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterable

from msgspec import Struct

from grid.wire.problems import SumRefused

COMPLETE = 256
"""Nodes up to which everybody is everyone's neighbour: it costs milliseconds, and claims more."""

SHARE = 5
"""One in so many nodes colludes, and one in so many is gone."""

READ, FAILS = 2.0**-80, 2.0**-20


class Spread(Struct, frozen=True):
    """How shares are spread among `nodes`: to `holders` of each, itself among them, of which `needed` lift a mask."""

    nodes: int
    holders: int
    needed: int

    def check(self, colluding: int) -> None:
        """Whether nobody is read by so many that collude, or by a fifth of all. Raises SumRefused."""
        if self.holders == self.nodes:
            return  # then the threshold of the sum says it all
        worst = max(colluding, self.nodes // SHARE)
        if self.nodes * _tail(self.nodes, worst, self.holders, self.needed) > READ:
            raise SumRefused(f"{self.needed} of {self.holders} shares do not hold against {worst} that collude")


class Circle:
    """The nodes of a sum on a circle; `seed` is what all of them agreed on. `needed`: shares that lift a mask."""

    def __init__(self, roster: Iterable[str], threshold: int, seed: bytes) -> None:
        self._order = sorted(roster, key=lambda node: hashlib.sha256(seed + node.encode()).digest())
        self._at = {node: at for at, node in enumerate(self._order)}
        self.spread = spread_over(len(self._order), threshold)
        self.needed = self.spread.needed

    def holders(self, node: str) -> tuple[str, ...]:
        """Who holds shares of a node's secrets, itself among them, sorted: a node holds shares of just those, too."""
        count = self.spread.holders
        if count == len(self._order):
            return tuple(sorted(self._order))
        first = self._at[node] - count // 2
        return tuple(sorted(self._order[at % len(self._order)] for at in range(first, first + count)))


@functools.lru_cache(maxsize=64)
def spread_over(nodes: int, threshold: int) -> Spread:
    """The spread for so many nodes; `threshold` is that of the whole sum, which a complete one shares."""
    if nodes <= COMPLETE:
        return Spread(nodes, nodes, threshold)
    few = nodes // SHARE
    for holders in range(3, nodes, 2):
        for needed in range(holders // 2, holders):
            if nodes * _tail(nodes, few, holders, needed) <= READ:
                if nodes * _tail(nodes, few, holders, holders - needed + 1) <= FAILS:
                    return Spread(nodes, holders, needed)
                break  # more of them would fail more often
    return Spread(nodes, nodes, threshold)


def _tail(nodes: int, bad: int, holders: int, least: int) -> float:
    """The chance that among a node's holders, but for itself, are at least `least` of the `bad` ones."""
    drawn, others = holders - 1, nodes - 1
    ways = sum(math.comb(bad, k) * math.comb(others - bad, drawn - k) for k in range(least, min(bad, drawn) + 1))
    return ways / math.comb(others, drawn)
